"""Keys have a scope, may end, and tell when they were last used; the audit log tells details, and what operators did."""

import sqlalchemy as sa
from alembic import op

revision = "0015_scopes"
down_revision = "0014_promotions"
branch_labels = None
depends_on = None

SCOPES = "scope IN ('read','write','admin','operator')"


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("scope", sa.String(), nullable=False, server_default="admin"))
        keys.add_column(sa.Column("expires_at", sa.Double()))
        keys.add_column(sa.Column("last_used_at", sa.Double()))
        keys.create_check_constraint(op.f("ck_api_keys_scope"), sa.text(SCOPES))
    op.execute("UPDATE api_keys SET scope = 'operator' WHERE admin")
    with op.batch_alter_table("api_keys") as keys:
        keys.alter_column("scope", server_default=None)
        keys.drop_column("admin")
    with op.batch_alter_table("audit") as audit:
        audit.add_column(sa.Column("details", sa.JSON()))
        audit.alter_column("key_id", nullable=True, existing_type=sa.String())
        audit.alter_column("request_id", nullable=True, existing_type=sa.String())


def downgrade() -> None:
    # Without scopes and ends these keys would do more than they were made for.
    op.execute(
        "UPDATE api_keys SET revoked_at = created_at "
        "WHERE revoked_at IS NULL AND (scope = 'read' OR expires_at IS NOT NULL)"
    )
    op.execute("DELETE FROM audit WHERE key_id IS NULL OR request_id IS NULL")
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("request_id", nullable=False, existing_type=sa.String())
        audit.alter_column("key_id", nullable=False, existing_type=sa.String())
        audit.drop_column("details")
    op.add_column("api_keys", sa.Column("admin", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE api_keys SET admin = true WHERE scope = 'operator'")
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_constraint(op.f("ck_api_keys_scope"), type_="check")
        keys.drop_column("last_used_at")
        keys.drop_column("expires_at")
        keys.drop_column("scope")
