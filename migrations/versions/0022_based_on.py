"""What is built on an artifact is found by it: before a deletion, and whenever checkpoints make room."""

import sqlalchemy as sa
from alembic import op

revision = "0022_based_on"
down_revision = "0021_devices"
branch_labels = None
depends_on = None

_BASED = sa.text("base_artifact_id IS NOT NULL")


def upgrade() -> None:
    op.create_index(
        "ix_artifacts_base", "artifacts", ["base_artifact_id"], postgresql_where=_BASED, sqlite_where=_BASED
    )


def downgrade() -> None:
    op.drop_index("ix_artifacts_base", "artifacts")
