"""Databases of any size: jobs, their artifacts, and one run of many steps, generated inside the database."""

from string import Template
from typing import NamedTuple

from sqlalchemy import Connection, create_engine, text

from db import stretches
from db.session import Database, Session

_RARE = 100
"""The number of cancelled jobs, and of `dpo` jobs: a page of them is full in a small database and sparse in a large one."""
_OTHERS = (
    "grad_norm",
    "learning_rate",
    "tokens_per_s",
    "trained_tokens_per_s",
    "mfu",
    "data_wait",
    "forward",
    "backward",
)
FIGURES = 2 + len(_OTHERS)
"""The figures of each step: loss, tokens, and the others that a run reports."""
_STEPS_AT_ONCE = 5_000_000
_STEPS_KEPT_AT_ONCE = 200_000
_WORDS = {
    "state": "CASE WHEN n % :apart = 9 THEN 'cancelled' WHEN n % 10 < 8 THEN 'succeeded' ELSE 'failed' END",
    "kind": "CASE WHEN n % :apart = 0 THEN 'dpo' WHEN n % 4 = 0 THEN 'eval' WHEN n % 4 = 1 THEN 'pretrain' ELSE 'sft' END",
    "value": "(CASE WHEN n = :spike THEN 99.0 ELSE 2.0 + (n * 7919) % 1000003 / 1000003.0 END)",
    "others": " || ".join(
        f"""', "{name}": ' || ((n * {7919 + place}) % 100003 / 100003.0)""" for place, name in enumerate(_OTHERS)
    ),
}
_SPOKEN = {
    "sqlite": {
        "head": "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)",
        "series": "numbers",
        "job": "printf('job-%026x', n)",
        "artifact": "printf('adapter-%026x', n)",
        "json": "text",
    },
    "postgresql": {
        "head": "",
        "series": "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS numbers(n)",
        "job": "'job-' || lpad(to_hex(n), 26, '0')",
        "artifact": "'adapter-' || lpad(to_hex(n), 26, '0')",
        "json": "json",
    },
}
_JOBS = """
INSERT INTO jobs (id, project_id, kind, spec, state, priority, created_at, queued_at, started_at, finished_at, fence,
    failures, dispatches, last_seq, batch, step, total_steps, progress, result)
$head
SELECT $job, :project, $kind, '{"kind": "sft", "model": "base/1", "seed": 42}', $state, 0, n, n, n, n + 60, 1,
    0, 1, 1, 0, 100, 100, '{"loss": 1.5}', '{"metrics": {"eval_loss": 1.5}}' FROM $series
"""
_ARTIFACTS = """
INSERT INTO artifacts (id, project_id, job_id, kind, layout, name, version, step, metrics, lineage, digest, size_bytes,
    created_at)
$head
SELECT $artifact, :project, $job, 'adapter', 'adapter', 'made', n, 100, '{}', '{}', '', 1, n
FROM $series WHERE n % 10 < 8
"""
_METRICS = """
INSERT INTO metrics (job_id, split, step, seq, attempt, created_at, "values")
$head
SELECT :run, 'train', n, n + 1, 1, 1000.0 + n,
    CAST('{"loss": ' || (CASE WHEN n = :gap THEN 'null' ELSE $value || '' END)
        || ', "tokens": ' || (n * 512.0) || $others || '}' AS $json)
FROM $series
"""


class Seeded(NamedTuple):
    """A database with that many jobs, and a run of that many steps with one spike and one gap."""

    url: str
    job_id: str
    steps: int

    @property
    def spike(self) -> int:
        return self.steps * 2 // 3

    @property
    def gap(self) -> int:
        return self.steps // 3


def seed(url: str, project_id: str, jobs: int, steps: int) -> Seeded:
    """Fill a database; the newest job is the run. The database is analyzed, as it would be some time after a load."""
    seeded = Seeded(url, f"job-{jobs:026x}", steps)
    engine = create_engine(url)
    with engine.begin() as connection:
        _fill(connection, _JOBS, 1, jobs, project=project_id, apart=max(10, jobs // _RARE))
        _fill(connection, _ARTIFACTS, 1, jobs, project=project_id)
    for first in range(1, steps + 1, _STEPS_AT_ONCE):
        last = min(first + _STEPS_AT_ONCE - 1, steps)
        with engine.begin() as connection:
            _fill(connection, _METRICS, first, last, run=seeded.job_id, spike=seeded.spike, gap=seeded.gap)
        print(f"  {last:,} of {steps:,} steps are there", flush=True)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET last_seq = :last WHERE id = :run"), {"last": steps + 1, "run": seeded.job_id}
        )
    _keep_stretches(seeded)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if url.startswith("sqlite") else "VACUUM ANALYZE"))
    engine.dispose()
    return seeded


def _fill(connection: Connection, statement: str, first: int, last: int, **given: str | int) -> None:
    spoken = Template(statement).substitute(_WORDS | _SPOKEN[connection.dialect.name])
    connection.execute(text(spoken), {"first": first, "last": last, **given})


def _keep_stretches(seeded: Seeded) -> None:
    """Summarise the run with the service's own code, as if its steps had been reported in large batches."""
    database = Database(seeded.url)
    before = 0
    while before < seeded.steps:
        last = min(before + _STEPS_KEPT_AT_ONCE, seeded.steps)
        with database.write() as session:
            _keep(session, seeded.job_id, before, last)
        if last % 5_000_000 == 0 or last == seeded.steps:
            print(f"  {last:,} of {seeded.steps:,} steps are in stretches", flush=True)
        before = last
    database.close()


def _keep(session: Session, job_id: str, before: int, last: int) -> None:
    told = (("train", step) for step in range(before + 1, last + 1))
    stretches.keep(session, job_id, told, {"train": before} if before else {})
