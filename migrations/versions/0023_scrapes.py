"""Monitoring and the sweep of unnamed blobs read indexes, not whole histories; each first attempt has its job's wait."""

import sqlalchemy as sa
from alembic import op

revision = "0023_scrapes"
down_revision = "0022_based_on"
branch_labels = None
depends_on = None

_FAILED = sa.text("failure_class IS NOT NULL")
_WAITED = sa.text("waited_s IS NOT NULL")
_UNENDED = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_index("ix_files_sha256", "files", ["sha256"])
    op.add_column("attempts", sa.Column("waited_s", sa.Double()))
    op.execute(
        "UPDATE attempts SET waited_s = started_at - (SELECT created_at FROM jobs WHERE jobs.id = attempts.job_id) "
        "WHERE number = 1"
    )
    op.create_index(
        "ix_attempts_failed",
        "attempts",
        ["failure_class", "exit_code"],
        postgresql_where=_FAILED,
        sqlite_where=_FAILED,
    )
    op.create_index("ix_attempts_waited", "attempts", ["waited_s"], postgresql_where=_WAITED, sqlite_where=_WAITED)
    op.create_index(
        "ix_gang_members_unended",
        "gang_members",
        ["worker", "job_id", "fence"],
        postgresql_where=_UNENDED,
        sqlite_where=_UNENDED,
    )


def downgrade() -> None:
    op.drop_index("ix_gang_members_unended", "gang_members")
    op.drop_index("ix_attempts_waited", "attempts")
    op.drop_index("ix_attempts_failed", "attempts")
    op.drop_column("attempts", "waited_s")
    op.drop_index("ix_files_sha256", "files")
