"""An audit log, and keys that may read it."""

import sqlalchemy as sa
from alembic import op

revision = "0008_audit"
down_revision = "0007_uploads"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("admin", sa.Boolean(), nullable=False, server_default=sa.false()))
    # The key that a first start makes is that of whoever runs the service.
    op.execute("UPDATE api_keys SET admin = true WHERE name = 'first'")
    op.create_table(
        "audit",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_audit_project_id"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_audit_key_id"),
    )
    op.create_index("ix_audit_project_id_id", "audit", ["project_id", "id"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_column("api_keys", "admin")
