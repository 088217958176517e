"""Workers tell of themselves, projects have shares and limits, jobs make way for others."""

import sqlalchemy as sa
from alembic import op

revision = "0004_fleet"
down_revision = "0003_file_expiry"
branch_labels = None
depends_on = None

LIMITS = "share > 0 AND (max_running_jobs IS NULL OR max_running_jobs >= 0)"
QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_s", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("stopped_at", sa.Double()),
        sa.CheckConstraint("heartbeat_s > 0 AND memory_bytes >= 0", name=op.f("ck_workers_amounts")),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    with op.batch_alter_table("projects") as projects:
        projects.add_column(sa.Column("share", sa.Double(), nullable=False, server_default="1"))
        projects.add_column(sa.Column("max_running_jobs", sa.BigInteger()))
        projects.create_check_constraint(op.f("ck_projects_limits"), sa.text(LIMITS))
    op.add_column("jobs", sa.Column("preempted_by", sa.String()))
    waiting = ["project_id", "priority", "id", "state"]
    op.create_index("ix_jobs_waiting", "jobs", waiting, postgresql_where=QUEUED, sqlite_where=QUEUED)


def downgrade() -> None:
    op.drop_index("ix_jobs_waiting", "jobs")
    op.drop_column("jobs", "preempted_by")
    with op.batch_alter_table("projects") as projects:
        projects.drop_constraint(op.f("ck_projects_limits"), type_="check")
        projects.drop_column("max_running_jobs")
        projects.drop_column("share")
    op.drop_table("workers")
