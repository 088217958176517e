"""Aliases of models, and what they have meant."""

import sqlalchemy as sa
from alembic import op

revision = "0014_promotions"
down_revision = "0013_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("back_to", sa.BigInteger()),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_promotions_number")),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_promotions_project_id"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name="fk_promotions_artifact_id"),
        sa.UniqueConstraint("project_id", "name", "alias", "number", name="uq_promotions_project_id_name_alias_number"),
    )
    op.create_index("ix_promotions_artifact_id", "promotions", ["artifact_id"])


def downgrade() -> None:
    op.drop_table("promotions")
