"""What is asked again and again, for every submit, claim and look, does not walk over the jobs of all projects."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from db import (
    artifacts,
    budgets,
    evals,
    files,
    gangs,
    idempotency,
    jobs,
    leases,
    lineage,
    outbox,
    preemption,
    projects,
    queue,
    records,
    references,
    service_stats,
    uploads,
    webhooks,
    workers,
)
from db.session import Database
from tests.integration.db.work import Work

_FEW = ("ix_jobs_queue", "ix_jobs_waiting", "ix_jobs_lease", "ix_jobs_asking")
"""Indexes of the jobs alone that wait or run."""
_WALKS = ("SCAN jobs", "SCAN artifacts", "SEARCH artifacts USING AUTOMATIC", "SEARCH jobs USING AUTOMATIC")
"""The last two make an index of the whole table each time."""
_OF_A_PROJECT = re.compile(r"SEARCH jobs USING (COVERING )?INDEX ix_jobs_project_id_\w+ \(project_id=\?\)")
"""Reads all jobs that a project ever had, unless it stops at a limit."""


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
    "whether one is to make way": lambda s, _: preemption.is_due(s, kinds=["sft"]),
    "what a project uses": lambda s, work: budgets.use(s, work.project_id, work.project_id),
    "what a key uses": lambda s, work: budgets.use(s, work.project_id, "key-1"),
    "whose budget is used up": lambda s, _: budgets.overdrawn(s, None, 10),
    "what is to be sent": lambda s, _: outbox.pending(s, 10),
    "a page": lambda s, work: jobs.page(s, work.project_id, after=None, limit=20),
    "what needs an artifact": lambda s, work: s.execute(lineage.needing([artifact(s, work)])).all(),
    "a page of one status": lambda s, work: jobs.page(s, work.project_id, after=None, limit=20, state="failed"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_jobs_that_ended_are_not_read(work, ask):
    work.run(work.submit())
    work.submit(priority=5)
    work.write(budgets.put, work.project_id, work.project_id, worker_s=0.0)
    read = scans(work.database, lambda s: ask(s, work))
    assert not read, "\n".join(read)


def test_a_query_that_reads_all_jobs_is_noticed(work):
    assert scans(work.database, lambda s: s.execute(jobs.select(jobs.Job.id).where(jobs.Job.step > 1)).all())


def test_eval_runs_that_ended_are_not_read(work):
    found = plans(work.database, lambda s: evals.open_runs(s, 10, asking=False))
    assert any("ix_eval_runs_open" in step for step, _ in found)
    assert not [step for step, _ in found if step == "SCAN eval_runs"]


def test_webhooks_that_were_delivered_are_not_read(work):
    found = plans(work.database, lambda s: webhooks.ready(s, webhooks.Room(8, 2), {"project-1": 1}, limit=5))
    assert [step for step, _ in found if "ix_webhook_deliveries_due" in step]
    assert not [step for step, _ in found if step == "SCAN webhook_deliveries"]


def test_webhooks_are_taken_without_a_look_at_those_that_wait(work):
    event_type = "fine_tuning.job.succeeded"
    work.write(webhooks.add, work.project_id, name="hook", url="http://127.0.0.1:1/", event_types=[event_type])
    work.write(webhooks.announce, work.project_id, event_type, "job-1")
    chosen = work.read(webhooks.ready, webhooks.Room(8, 2), {}, limit=5)
    assert len(chosen) == 1
    assert plans(work.database, lambda s: webhooks.take(s, chosen, hold_s=1.0)) == []


REMOVED: dict[str, tuple[str, Any]] = {
    "messages": ("ix_outbox_sent", lambda s, _: outbox.purge(s, 60.0)),
    "deliveries": ("ix_webhook_deliveries_ended", lambda s, _: webhooks.purge(s, 60.0)),
    "parts of uploads": ("ix_uploads_pending", lambda s, _: uploads.forget_expired(s, 60.0, 10)),
    "runs of evals": ("ix_eval_runs_deleted", lambda s, _: evals.purge(s, 60.0, 10)),
    "runs of deleted evals": ("ix_evals_deleted", lambda s, _: evals.purge(s, 60.0, 10)),
    "files": ("ix_files_expiry", lambda s, _: files.expired(s, 10, "file-1")),
    "creates": ("ix_intents_created_at", lambda s, _: idempotency.purge(s, 10)),
    "storage in use": ("ix_uploads_pending", lambda s, work: budgets.use(s, work.project_id, work.project_id)),
}


@pytest.mark.parametrize(("index", "ask"), REMOVED.values(), ids=REMOVED)
def test_housekeeping_and_budgets_read_no_more_than_what_is_over_or_open(work, index, ask):
    steps = [step for step, _ in plans(work.database, lambda s: ask(s, work))]
    assert [step for step in steps if index in step]
    tables = ("outbox", "webhook_deliveries", "uploads", "upload_parts", "eval_runs", "evals", "files", "intents")
    assert not [step for step in steps if step in {f"SCAN {table}" for table in tables}]


FIGURES: dict[str, Any] = {
    "waits": service_stats.waits,
    "failures": service_stats.failures,
    "lease expiries": service_stats.lease_expiries,
}


@pytest.mark.parametrize("ask", FIGURES.values(), ids=FIGURES)
def test_figures_about_attempts_are_read_from_an_index_of_few_columns(work, ask):
    steps = [step for step, _ in plans(work.database, ask)]
    assert len(steps) == 1
    assert steps[0].startswith("SEARCH attempts USING COVERING INDEX ix_attempts_")


def test_parts_in_gangs_that_ended_are_not_read(work):
    steps = [step for step, _ in plans(work.database, gangs.busy) if "gang_members" in step]
    assert [step for step in steps if "ix_gang_members_unended" in step] == steps


def test_whether_blobs_are_named_is_found_by_their_hashes(work):
    hashes = ["a" * 64, "b" * 64]
    found = plans(work.database, lambda s: references.named(s, hashes, 0.0))
    assert not [step for step, _ in found if step.startswith("SCAN")]


@pytest.mark.parametrize("split", [None, "train", "eval"])
def test_a_page_of_metrics_reads_no_more_than_the_page(work, split):
    """Each split is read from its place on; a job's metrics as a whole are in no order of steps."""
    job_id = work.submit()
    found = plans(work.database, lambda s: records.metrics_page(s, job_id, split=split, after_step=3, limit=5))
    steps = [step for step, _ in found if "metrics" in step]
    assert len(steps) == (2 if split is None else 1)
    assert {step.partition(" (")[2] for step in steps} == {"job_id=? AND split=? AND step>?)"}


def scans(database: Database, ask: Any) -> list[str]:
    """The queries by which SQLite walks over all jobs, or all of a project, each with the step of its plan."""
    found = []
    for step, statement in plans(database, ask):
        of_a_project = _OF_A_PROJECT.fullmatch(step) and "LIMIT" not in statement
        if of_a_project or (step.startswith(_WALKS) and not any(name in step for name in _FEW)):
            found.append(f"{step}: {statement}")
    return found


def plans(database: Database, ask: Any) -> list[tuple[str, str]]:
    """The steps of SQLite's plan for each query that is executed, each with the query."""
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
            if not statement.lstrip().upper().startswith(("SELECT", "WITH", "DELETE")):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            found += [(row[3], statement) for row in plan]
    assert told, "something was asked"
    return found
