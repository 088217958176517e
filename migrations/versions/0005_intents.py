"""What clients asked to be made, so that asking again makes no second one."""

import sqlalchemy as sa
from alembic import op

revision = "0005_intents"
down_revision = "0004_fleet"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "intents",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("by_retry", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "path", "name", name="pk_intents"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_intents_key_id"),
    )
    op.create_index("ix_intents_created_at", "intents", ["created_at"])


def downgrade() -> None:
    op.drop_table("intents")
