"""Files that go by themselves: when their time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0003_file_expiry"
down_revision = "0002_pauses"
branch_labels = None
depends_on = None

THERE = sa.text("expires_at IS NOT NULL AND deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("files", sa.Column("expires_at", sa.Double()))
    op.create_index("ix_files_expiry", "files", ["expires_at"], postgresql_where=THERE, sqlite_where=THERE)


def downgrade() -> None:
    op.drop_index("ix_files_expiry", table_name="files")
    op.drop_column("files", "expires_at")
