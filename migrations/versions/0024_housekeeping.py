"""Budgets and housekeeping read indexes, not whole tables; parts of gangs end with their attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0024_housekeeping"
down_revision = "0023_scrapes"
branch_labels = None
depends_on = None

_DELETED = sa.text("deleted_at IS NOT NULL")
_ENDED = sa.text("state <> 'pending'")
_PENDING = sa.text("state = 'pending'")
_SENT = sa.text("sent_at IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_uploads_pending",
        "uploads",
        ["project_id", "expires_at"],
        postgresql_where=_PENDING,
        sqlite_where=_PENDING,
    )
    op.create_index(
        "ix_webhook_deliveries_ended",
        "webhook_deliveries",
        ["created_at"],
        postgresql_where=_ENDED,
        sqlite_where=_ENDED,
    )
    op.create_index("ix_outbox_sent", "outbox", ["sent_at"], postgresql_where=_SENT, sqlite_where=_SENT)
    op.create_index("ix_evals_deleted", "evals", ["deleted_at"], postgresql_where=_DELETED, sqlite_where=_DELETED)
    op.create_index(
        "ix_eval_runs_deleted", "eval_runs", ["deleted_at"], postgresql_where=_DELETED, sqlite_where=_DELETED
    )
    # Workers that were lost have not ended their parts.
    op.execute(
        "UPDATE gang_members SET ended_at = (SELECT ended_at FROM attempts "
        "WHERE attempts.job_id = gang_members.job_id AND attempts.number = gang_members.fence) WHERE ended_at IS NULL"
    )
    op.drop_index("ix_gang_members_worker", "gang_members")


def downgrade() -> None:
    op.create_index("ix_gang_members_worker", "gang_members", ["worker"])
    op.drop_index("ix_eval_runs_deleted", "eval_runs")
    op.drop_index("ix_evals_deleted", "evals")
    op.drop_index("ix_outbox_sent", "outbox")
    op.drop_index("ix_webhook_deliveries_ended", "webhook_deliveries")
    op.drop_index("ix_uploads_pending", "uploads")
