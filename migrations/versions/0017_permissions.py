"""Which projects may use a checkpoint of another's."""

import sqlalchemy as sa
from alembic import op

revision = "0017_permissions"
down_revision = "0016_budgets"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "permissions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_permissions"),
        sa.UniqueConstraint("artifact_id", "project_id", name="uq_permissions_artifact_id_project_id"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name="fk_permissions_artifact_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_permissions_project_id"),
    )


def downgrade() -> None:
    op.drop_table("permissions")
