"""Long curves are read by stretches of their steps; those of runs that are there already are made."""

import sqlalchemy as sa
from alembic import op

revision = "0018_stretches"
down_revision = "0017_permissions"
branch_labels = None
depends_on = None

LONG_STEPS, SMALLEST_STEPS, GROWTH = 16_384, 32, 4
LONG = "SELECT job_id, split, max(step) FROM metrics GROUP BY job_id, split HAVING max(step) >= :long"
POINTS = ("low", "high", "gap")
KEPT = [name + end for name in POINTS for end in ("_step", "_at", "_tokens")]

# A step is a stretch of itself.
OF_METRICS = """
SELECT job_id, split, name, step AS start, 1 AS told, CASE WHEN value IS NULL THEN 1 ELSE 0 END AS gaps,
    value AS mean, value AS low, value AS high, {kept}
FROM (
    SELECT m.job_id, m.split, m.step, m.created_at AS at, told.key AS name,
        CAST(told.value AS DOUBLE PRECISION) AS value, CAST(m."values" ->> 'tokens' AS DOUBLE PRECISION) AS tokens
    FROM metrics AS m, {each} WHERE m.job_id = :job_id AND m.split = :split AND m.step < :stop
) AS points
"""
OF_STRETCHES = """
SELECT * FROM stretches
WHERE job_id = :job_id AND split = :split AND size = :size / {growth} AND start < :stop
"""
JOINED = """
INSERT INTO stretches (job_id, split, name, size, start, told, gaps, mean, low, high, {columns})
WITH parts AS ({parts}),
ranked AS (
    SELECT parts.*, start - start % :size AS whole,
        row_number() OVER (PARTITION BY name, start - start % :size ORDER BY low IS NULL, low, start) AS low_rank,
        row_number() OVER (PARTITION BY name, start - start % :size ORDER BY high IS NULL, high DESC, start) AS high_rank,
        row_number() OVER (PARTITION BY name, start - start % :size ORDER BY gap_step IS NULL, gap_step) AS gap_rank
    FROM parts
)
SELECT job_id, split, name, CAST(:size AS BIGINT), whole, sum(told), sum(gaps),
    {greatest}(min(low), {least}(max(high), sum(mean * (told - gaps)) / nullif(sum(told - gaps), 0))),
    min(low), max(high), {kept}
FROM ranked GROUP BY job_id, split, name, whole
"""
DIALECTS = {
    "postgresql": {"each": 'json_each_text(m."values") AS told', "least": "least", "greatest": "greatest"},
    "sqlite": {"each": 'json_each(m."values") AS told', "least": "min", "greatest": "max"},
}


def upgrade() -> None:
    op.create_table(
        "stretches",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("mean", sa.Double()),
        sa.Column("low", sa.Double()),
        sa.Column("low_step", sa.BigInteger()),
        sa.Column("low_at", sa.Double()),
        sa.Column("low_tokens", sa.Double()),
        sa.Column("high", sa.Double()),
        sa.Column("high_step", sa.BigInteger()),
        sa.Column("high_at", sa.Double()),
        sa.Column("high_tokens", sa.Double()),
        sa.Column("gap_step", sa.BigInteger()),
        sa.Column("gap_at", sa.Double()),
        sa.Column("gap_tokens", sa.Double()),
        sa.CheckConstraint("split IN ('train','eval')", name="ck_stretches_split"),
        sa.PrimaryKeyConstraint("job_id", "split", "name", "size", "start", name="pk_stretches"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_stretches_job_id"),
    )
    op.create_index("ix_jobs_project_id_kind_id", "jobs", ["project_id", "kind", "id"])
    op.create_index("ix_jobs_project_id_state_id", "jobs", ["project_id", "state", "id"])
    for job_id, split, newest_step in op.get_bind().execute(sa.text(LONG), {"long": LONG_STEPS}).all():
        fill(job_id, split, newest_step)


def fill(job_id: str, split: str, newest_step: int) -> None:
    """All stretches of a run that are complete, from the smallest size up."""
    connection = op.get_bind()
    told = DIALECTS[connection.dialect.name]
    single = [
        f"CASE WHEN value IS {'' if name == 'gap' else 'NOT '}NULL THEN {column} END AS {name}_{column}"
        for name in POINTS
        for column in ("step", "at", "tokens")
    ]
    chosen = [f"max(CASE WHEN {column.partition('_')[0]}_rank = 1 THEN {column} END)" for column in KEPT]
    parts = OF_METRICS.format(kept=", ".join(single), **told)
    size = SMALLEST_STEPS
    while newest_step >= size:
        statement = JOINED.format(parts=parts, columns=", ".join(KEPT), kept=", ".join(chosen), **told)
        given = {"job_id": job_id, "split": split, "size": size, "stop": newest_step - newest_step % size}
        connection.execute(sa.text(statement), given)
        parts = OF_STRETCHES.format(growth=GROWTH)
        size *= GROWTH


def downgrade() -> None:
    op.drop_index("ix_jobs_project_id_state_id", "jobs")
    op.drop_index("ix_jobs_project_id_kind_id", "jobs")
    op.drop_table("stretches")
