"""Plans, and which of them a job follows."""

import sqlalchemy as sa
from alembic import op

revision = "0006_plans"
down_revision = "0005_intents"
branch_labels = None
depends_on = None

FOLLOWED = sa.text("plan_id IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("forecast", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_plans_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_index(op.f("ix_plans_project_id_id"), "plans", ["project_id", "id"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("plan_id", sa.String(), nullable=True))
        jobs.create_foreign_key(op.f("fk_jobs_plan_id_plans"), "plans", ["plan_id"], ["id"])
    op.create_index("ix_jobs_plan", "jobs", ["plan_id"], postgresql_where=FOLLOWED, sqlite_where=FOLLOWED)


def downgrade() -> None:
    op.drop_index("ix_jobs_plan", "jobs")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint(op.f("fk_jobs_plan_id_plans"), type_="foreignkey")
        jobs.drop_column("plan_id")
    op.drop_table("plans")
