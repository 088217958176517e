"""A job remembers the trace of the request that made it."""

import sqlalchemy as sa
from alembic import op

revision = "0009_traces"
down_revision = "0008_audit"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("traceparent", sa.String()))


def downgrade() -> None:
    op.drop_column("jobs", "traceparent")
