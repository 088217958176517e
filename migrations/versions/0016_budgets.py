"""Jobs and files know the key that made them, spending is counted by day, and projects and keys have budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0016_budgets"
down_revision = "0015_scopes"
branch_labels = None
depends_on = None

AMOUNTS = ("worker_s", "money", "active_jobs", "storage_bytes")
DAY = {"sqlite": "CAST(ended_at / 86400 AS INTEGER)", "postgresql": "CAST(floor(ended_at / 86400) AS BIGINT)"}
SPENT = """
INSERT INTO spend (project_id, key_id, kind, day, worker_s, attempts)
SELECT project_id, '', kind, {day}, sum(ended_at - attempts.started_at), count(*)
FROM attempts JOIN jobs ON jobs.id = attempts.job_id
WHERE ended_at IS NOT NULL GROUP BY project_id, kind, {day}
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("key_id", sa.String()))
    op.add_column("files", sa.Column("key_id", sa.String()))
    op.create_table(
        "budgets",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("worker_s", sa.Double()),
        sa.Column("money", sa.Double()),
        sa.Column("active_jobs", sa.BigInteger()),
        sa.Column("storage_bytes", sa.BigInteger()),
        sa.CheckConstraint(
            " AND ".join(f"({name} IS NULL OR {name} >= 0)" for name in AMOUNTS), name=op.f("ck_budgets_amounts")
        ),
        sa.PrimaryKeyConstraint("owner_id", name="pk_budgets"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_budgets_project_id"),
    )
    op.create_table(
        "spend",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("worker_s", sa.Double(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "day", "key_id", "kind", name="pk_spend"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_spend_project_id"),
    )
    op.execute(SPENT.format(day=DAY[op.get_bind().dialect.name]))


def downgrade() -> None:
    op.drop_table("spend")
    op.drop_table("budgets")
    op.drop_column("files", "key_id")
    op.drop_column("jobs", "key_id")
