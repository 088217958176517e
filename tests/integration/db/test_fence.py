"""A stale fence changes nothing, whichever function it is shown to."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Table, select

from db import artifacts, leases, records
from db.models import Row
from db.session import Database
from db.state import JobState
from tests.integration.db.work import ENTRY, Work, event, metric

PUBLISHED: dict[str, Any] = {"layout": "model", "step": 7, "files": [ENTRY], "metrics": {}, "lineage": {}}
FAILURE: dict[str, Any] = {
    "failure": "bug", "code": "bug", "message": "it broke", "mend": None,
    "exit_code": 1, "max_attempts": 3, "backoff_s": 1.0,
}  # fmt: skip

# Every function that takes a fence, and what it says to a stale one.
FENCED: dict[str, tuple[Callable[..., Any], dict[str, Any], Any]] = {
    "renew": (leases.renew, {"lease_s": 60}, None),
    "begin_running": (leases.begin_running, {}, False),
    "release": (leases.release, {"outcome": "stopped", "message": "stopped"}, False),
    "settle": (leases.settle, {"state": JobState.FAILED, "message": "it broke"}, False),
    "retry_or_fail": (leases.retry_or_fail, FAILURE, None),
    "append": (records.append, {"events": [event()], "metrics": [metric(1)], "lease_s": 60}, None),
    "publish_checkpoint": (artifacts.publish_checkpoint, PUBLISHED | {"keep": 1}, None),
    "publish_result": (artifacts.publish_result, PUBLISHED | {"kind": "model", "name": "tiny"}, None),
}
WHILE_RUNNING = ("renew", "begin_running", "append", "publish_checkpoint", "publish_result")


def everything(database: Database) -> dict[str, list[Any]]:
    with database.read() as s:
        tables: list[Table] = Row.metadata.sorted_tables
        return {table.name: sorted(map(tuple, s.execute(select(table))), key=repr) for table in tables}


def changes_nothing(work: Work, name: str, job_id: str, fence: int) -> bool:
    act, arguments, refusal = FENCED[name]
    before = everything(work.database)
    assert work.write(act, job_id, fence, **arguments) is refusal
    return everything(work.database) == before


@pytest.mark.parametrize("name", FENCED)
def test_the_fence_of_an_earlier_claim_writes_nothing(work: Work, name: str):
    job_id = work.submit()
    stale = work.claim(job_id)
    work.write(leases.release, job_id, stale, outcome="stopped", message="stopped")
    work.claim(job_id)
    assert changes_nothing(work, name, job_id, stale)


@pytest.mark.parametrize("name", FENCED)
def test_the_fence_of_a_job_that_was_given_back_writes_nothing(work: Work, name: str):
    job_id = work.submit()
    stale = work.claim(job_id)
    work.write(leases.release, job_id, stale, outcome="stopped", message="stopped")
    assert changes_nothing(work, name, job_id, stale)


@pytest.mark.parametrize("name", FENCED)
def test_the_fence_of_a_job_that_ended_writes_nothing(work: Work, name: str):
    job_id = work.submit()
    fence = work.run(job_id)
    work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert changes_nothing(work, name, job_id, fence)


@pytest.mark.parametrize("name", WHILE_RUNNING)
def test_a_worker_that_slept_past_its_lease_writes_nothing_before_anyone_took_the_job(work: Work, name: str):
    job_id = work.submit()
    fence = work.claim(job_id, lease_s=0)
    assert changes_nothing(work, name, job_id, fence)


@pytest.mark.parametrize("name", FENCED)
def test_a_fence_of_a_job_that_does_not_exist_writes_nothing(work: Work, name: str):
    assert changes_nothing(work, name, "job-\0", 1)
