"""Workers tell how many GPUs they have, which jobs for several processes ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0021_devices"
down_revision = "0020_gangs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("gpus", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("workers", "gpus")
