"""The installation has a name, so that blobs say whose they are."""

import sqlalchemy as sa
from alembic import op

revision = "0019_installation"
down_revision = "0018_stretches"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installations",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("number = 1", name="ck_installations_one"),
        sa.PrimaryKeyConstraint("number", name="pk_installations"),
    )


def downgrade() -> None:
    op.drop_table("installations")
