"""A job remembers since when it waits, and the newest batch that its attempt told."""

import sqlalchemy as sa
from alembic import op

revision = "0011_queued"
down_revision = "0010_evals"
branch_labels = None
depends_on = None

SINCE = """
UPDATE jobs SET queued_at = coalesce(
    (SELECT ended_at FROM attempts WHERE attempts.job_id = jobs.id AND attempts.number = jobs.fence),
    created_at
)
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("queued_at", sa.Double(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("batch", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(SINCE)


def downgrade() -> None:
    op.drop_column("jobs", "batch")
    op.drop_column("jobs", "queued_at")
