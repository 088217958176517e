"""Evals, their runs and the items of those."""

import sqlalchemy as sa
from alembic import op

revision = "0010_evals"
down_revision = "0009_traces"
branch_labels = None
depends_on = None

OPEN = sa.text("state IN ('queued','in_progress')")


def upgrade() -> None:
    op.create_table(
        "evals",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_evals"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_evals_project_id"),
    )
    op.create_index("ix_evals_project_id_id", "evals", ["project_id", "id"])
    op.create_table(
        "eval_runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("eval_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tally", sa.JSON(), nullable=False),
        sa.Column("error_message", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.CheckConstraint("state IN ('queued','in_progress','completed','canceled','failed')", name="state"),
        sa.PrimaryKeyConstraint("id", name="pk_eval_runs"),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name="fk_eval_runs_eval_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_eval_runs_project_id"),
    )
    op.create_index("ix_eval_runs_eval_id_id", "eval_runs", ["eval_id", "id"])
    op.create_index("ix_eval_runs_open", "eval_runs", ["id"], postgresql_where=OPEN, sqlite_where=OPEN)
    op.create_table(
        "eval_items",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("row", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('pass','fail','error')", name="state"),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_eval_items"),
        sa.ForeignKeyConstraint(["run_id"], ["eval_runs.id"], name="fk_eval_items_run_id"),
    )


def downgrade() -> None:
    for table in ("eval_items", "eval_runs", "evals"):
        op.drop_table(table)
