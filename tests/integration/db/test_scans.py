"""What is asked again and again, for every submit, claim and look, does not walk over the jobs of all projects."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from db import artifacts, jobs, leases, lineage, outbox, preemption, projects, queue, service_stats, workers
from db.session import Database
from tests.integration.db.work import Work

_FEW = ("ix_jobs_queue", "ix_jobs_waiting", "ix_jobs_lease", "ix_jobs_asking")
"""Indexes of the jobs alone that wait or run."""
_WALKS = ("SCAN jobs", "SCAN artifacts", "SEARCH artifacts USING AUTOMATIC", "SEARCH jobs USING AUTOMATIC")
"""The last two make an index of the whole table each time."""


@pytest.fixture
def work(sqlite_template, tmp_path) -> Iterator[Work]:
    """On SQLite, which plans by what indexes there are; PostgreSQL plans by how much is in them."""
    path = tmp_path / "trainyard.db"
    shutil.copyfile(sqlite_template, path)
    database = Database(f"sqlite:///{path}")
    with database.write() as s:
        project_id = projects.create(s, "mine").id
    yield Work(database, project_id)
    database.close()


def places(s: Any, work: Work) -> Any:
    waiting, _ = jobs.page(s, work.project_id, after=None, limit=5, state="queued")
    return queue.places(s, waiting, workers.look(s))


def artifact(s: Any, work: Work) -> str:
    page, _ = artifacts.page(s, work.project_id, kinds=("checkpoint", "model"), job_id=None, after=None, limit=1)
    return page[0].id if page else "model-none"


ASKED: dict[str, Any] = {
    "who runs": lambda s, _: workers.look(s),
    "how quick they are": lambda s, _: service_stats.speeds(s),
    "who is next": lambda s, _: queue.choose(s),
    "how many could start": lambda s, _: queue.startable(s),
    "how many wait": lambda s, _: queue.length(s),
    "where the waiting stand": places,
    "whose lease ran out": lambda s, _: leases.expired(s, 10),
    "what nobody claimed": lambda s, _: leases.unclaimed(s, 60.0, 10),
    "who is to make way": lambda s, _: preemption.arrange(s, kinds=["sft"], after_s=0.0),
    "what is to be sent": lambda s, _: outbox.pending(s, 10),
    "a page": lambda s, work: jobs.page(s, work.project_id, after=None, limit=20),
    "what needs an artifact": lambda s, work: s.execute(lineage.needing([artifact(s, work)])).all(),
    "a page of one status": lambda s, work: jobs.page(s, work.project_id, after=None, limit=20, state="failed"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_jobs_that_ended_are_not_read(work, ask):
    work.run(work.submit())
    work.submit(priority=5)
    read = scans(work.database, lambda s: ask(s, work))
    assert not read, "\n".join(read)


def test_a_query_that_reads_all_jobs_is_noticed(work):
    assert scans(work.database, lambda s: s.execute(jobs.select(jobs.Job.id).where(jobs.Job.step > 1)).all())


def scans(database: Database, ask: Any) -> list[str]:
    """Of the queries that are executed, those by which SQLite walks over all jobs, or all of them in some order."""
    told: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        told.append((statement, parameters))

    with database.write() as s:
        connection = s.connection()
        event.listen(connection, "before_cursor_execute", note)
        ask(s)
        event.remove(connection, "before_cursor_execute", note)
        found = []
        for statement, parameters in told:
            if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [row[3] for row in plan if row[3].startswith(_WALKS)]
            found += [f"{step}: {statement}" for step in steps if not any(name in step for name in _FEW)]
    assert told, "something was asked"
    return found
