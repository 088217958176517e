"""Budgets and spend: what is used is counted once, and what is over is found, for a project and for one key of it."""

import threading
import time
from datetime import UTC, datetime

import pytest

from db import attempts, budgets, files, jobs, keys, leases, orders, spend
from db.budgets import Excess
from db.models import Attempt, Job
from db.scopes import Scope
from db.state import JobState
from tests.integration.db.work import Work


@pytest.fixture
def key_id(work: Work) -> str:
    return work.write(keys.create, work.project_id, "laptop", b"secret", scope=Scope.WRITE)[0].id


def took(work: Work, seconds: float, key_id: str | None = None, kind: str = "sft") -> str:
    """A job of one attempt that has just ended after so long."""
    job_id = work.submit(key_id=key_id, kind=kind)
    fence = work.run(job_id)
    begun(work, job_id, seconds)
    assert work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    return job_id


def begun(work: Work, job_id: str, seconds_ago: float) -> None:
    with work.database.write() as s:
        s.get_one(Attempt, (job_id, 1)).started_at -= seconds_ago


def excess(work: Work, key_id: str, **more) -> Excess | None:
    return work.write(budgets.excess, work.project_id, key_id, **({"price_per_hour": None, "jobs": 1} | more))


def about(seconds: float):
    """An attempt of this test takes what the machine takes for it on top."""
    return pytest.approx(seconds, abs=5)


def test_every_attempt_is_counted_once_by_project_key_kind_and_day(work: Work, theirs: Work, key_id: str):
    took(work, 100, key_id)
    took(work, 50, kind="eval")
    took(theirs, 7)
    job_id = work.submit(key_id=key_id)
    fence = work.run(job_id)
    begun(work, job_id, 30)
    assert work.write(leases.release, job_id, fence, outcome="preempted", message="")
    assert not work.write(
        leases.release, job_id, fence, outcome="preempted", message=""
    )  # a stale fence counts nothing
    today = int(time.time() // spend.DAY_S)
    told = {
        by: {group.of: (group.worker_s, group.attempts) for group in work.read(
            spend.report, by, since=today - 1, until=today, project_id=work.project_id
        )}
        for by in ("project", "key", "kind", "day")
    }  # fmt: skip
    assert told["project"] == {work.project_id: (about(180), 3)}
    assert told["key"] == {"": (about(50), 1), key_id: (about(130), 2)}
    assert told["kind"] == {"eval": (about(50), 1), "sft": (about(130), 2)}
    assert sum(seconds for seconds, _ in told["day"].values()) == about(180)
    everything = work.read(spend.report, "project", since=today - 1, until=today)
    told_of_all = {group.of: group.worker_s for group in everything}
    assert told_of_all == {work.project_id: about(180), theirs.project_id: about(7)}


def test_an_attempt_that_is_ended_twice_is_counted_once(work: Work):
    job_id = took(work, 60)
    work.write(attempts.end, job_id, 1, outcome="again")
    assert work.read(spend.this_month, work.project_id) == pytest.approx(60, abs=5)


def test_what_runs_now_counts_as_it_stands(work: Work, key_id: str):
    job_id = work.submit(key_id=key_id)
    work.run(job_id)
    begun(work, job_id, 40)
    assert work.read(spend.this_month, work.project_id) == pytest.approx(40, abs=5)
    assert work.read(spend.this_month, work.project_id, key_id) == pytest.approx(40, abs=5)
    assert work.read(spend.this_month, work.project_id, "key-other") == 0


@pytest.mark.parametrize("end", ["retried", "failed", "paused"])
def test_the_time_after_a_lease_ran_out_is_nobodys(work: Work, end: str):
    job_id = work.submit()
    fence = work.run(job_id, lease_s=30)
    if end == "paused":
        work.write(orders.pause, work.project_id, job_id)
    began = time.time() - 12 * spend.DAY_S
    with work.database.write() as s:
        s.get_one(Attempt, (job_id, fence)).started_at = began
        s.get_one(Job, job_id).lease_expires_at = began + 30
    month_began = spend.first_of_month(time.time()) * spend.DAY_S
    since_then = about(max(0.0, min(30.0, began + 30 - month_began)))
    assert work.read(spend.this_month, work.project_id) == since_then
    told = {"failure": "worker_lost", "code": "worker_lost", "message": "", "mend": None, "exit_code": None}
    tries = 1 if end == "failed" else 3
    assert work.write(leases.retry_or_fail, job_id, fence, **told, max_attempts=tries, backoff_s=0.0)
    assert work.read(spend.this_month, work.project_id) == since_then
    today = int(time.time() // spend.DAY_S)
    (taken,) = work.read(spend.report, "project", since=today - 13, until=today)
    assert (taken.worker_s, taken.attempts) == (about(30), 1)


def test_of_an_attempt_that_began_before_the_month_only_the_rest_counts(work: Work, key_id: str):
    job_id = work.submit(key_id=key_id)
    fence = work.run(job_id)
    month_began = spend.first_of_month(time.time()) * spend.DAY_S
    begun(work, job_id, time.time() - month_began + 12 * spend.DAY_S)
    assert work.read(spend.this_month, work.project_id, key_id) == about(time.time() - month_began)
    assert work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert work.read(spend.this_month, work.project_id, key_id) == about(time.time() - month_began)


def test_an_attempt_is_entered_on_each_of_its_days_and_counted_on_the_last(work: Work):
    job_id = work.submit()
    work.run(job_id)
    first, last = (int(datetime(2026, *day, tzinfo=UTC).timestamp() // spend.DAY_S) for day in ((3, 20), (4, 1)))
    work.write(spend.book, job_id, 1, first * spend.DAY_S + 600.0, last * spend.DAY_S + 60.0)
    days = work.read(spend.report, "day", since=first - 1, until=last + 1)
    assert [(day.of, day.worker_s, day.attempts) for day in days] == [
        (first, spend.DAY_S - 600, 0),
        *((day, spend.DAY_S, 0) for day in range(first + 1, last)),
        (last, 60, 1),
    ]


def test_an_attempt_that_ends_before_it_began_by_another_clock_took_nothing(work: Work):
    job_id = work.submit()
    work.run(job_id)
    work.write(spend.book, job_id, 1, 2.0 * spend.DAY_S, 1.5 * spend.DAY_S)
    assert work.read(spend.report, "day", since=0, until=9) == [spend.Group(1, 0.0, 1)]


def test_a_month_begins_with_nothing_used(work: Work):
    took(work, 60)
    with work.database.write() as s:
        for row in s.scalars(spend.select(spend.Spend)):
            row.day = spend.first_of_month(time.time()) - 1
    assert work.read(spend.this_month, work.project_id) == 0


def test_who_has_no_budget_uses_what_it_likes(work: Work, key_id: str):
    took(work, 1e6, key_id)
    assert excess(work, key_id) is None


@pytest.mark.parametrize("owner", ["project", "key"])
def test_time_that_is_used_up_is_found(work: Work, key_id: str, owner: str):
    owner_id = work.project_id if owner == "project" else key_id
    work.write(budgets.put, work.project_id, owner_id, worker_s=100.0)
    took(work, 60, key_id)
    assert excess(work, key_id) is None
    took(work, 60, key_id)
    over = excess(work, key_id)
    assert over is not None
    assert (over.owner_id, over.amount, over.most, round(over.used)) == (owner_id, "worker_s", 100, 120)


def test_a_keys_budget_counts_what_that_key_used_alone(work: Work, key_id: str):
    other = work.write(keys.create, work.project_id, "other", b"secret")[0].id
    work.write(budgets.put, work.project_id, key_id, worker_s=100.0)
    took(work, 500, other)
    assert excess(work, key_id) is None
    assert excess(work, other) is None


def test_money_is_counted_by_the_price_of_an_hour(work: Work, key_id: str):
    work.write(budgets.put, work.project_id, work.project_id, money=3.0)
    took(work, 60, key_id)  # an hour would reach back into last month on the first of a month
    assert excess(work, key_id, price_per_hour=2.5 * 60) is None
    over = excess(work, key_id, price_per_hour=4.0 * 60)
    assert over is not None
    assert (over.amount, round(over.used, 1)) == ("money", 4.0)
    assert excess(work, key_id) is None  # nobody said what it costs


def test_jobs_that_wait_or_run_count_and_those_that_ended_or_are_paused_do_not(work: Work, key_id: str):
    work.write(budgets.put, work.project_id, key_id, active_jobs=2)
    took(work, 1, key_id)
    paused = work.submit(key_id=key_id)
    work.write(orders.pause, work.project_id, paused)
    work.run(work.submit(key_id=key_id))
    assert excess(work, key_id) is None
    work.submit(key_id=key_id)
    assert excess(work, key_id) == Excess(key_id, "active_jobs", 2, 2)


def test_bytes_of_files_and_of_what_jobs_made_count_until_they_are_deleted(work: Work, key_id: str):
    work.write(budgets.put, work.project_id, key_id, storage_bytes=1000)
    told = {"filename": "a", "purpose": "evals", "sha256": "a" * 64, "format": "chat", "row_count": 1}
    file = work.write(files.add, work.project_id, size_bytes=600, key_id=key_id, **told)
    assert excess(work, key_id, jobs=0, new_bytes=400) is None
    assert excess(work, key_id, jobs=0, new_bytes=401) == Excess(key_id, "storage_bytes", 1000, 600)
    job_id = work.submit(key_id=key_id)
    work.result(job_id, work.run(job_id), files=[work_entry(500)])
    over = excess(work, key_id)
    assert over is not None
    assert (over.amount, over.used) == ("storage_bytes", 1100)
    work.write(files.delete, work.project_id, file.id)
    assert excess(work, key_id) is None


def work_entry(size_bytes: int):
    from db.artifacts import FileEntry

    return FileEntry("model.safetensors", "b" * 64, size_bytes)


def test_of_many_who_ask_at_once_no_more_are_let_in_than_there_is_room_for(work: Work, key_id: str):
    work.write(budgets.put, work.project_id, work.project_id, active_jobs=3)
    refused: list[Excess] = []

    def submit() -> None:
        with work.database.write() as s:
            over = budgets.excess(s, work.project_id, key_id, price_per_hour=None, jobs=1)
            if over is not None:
                refused.append(over)
                return
            jobs.create(s, [jobs.NewJob(work.project_id, {}, "sft", 0, key_id=key_id)])

    threads = [threading.Thread(target=submit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 9
    with work.database.read() as s:
        assert s.query(Job).count() == 3


def test_jobs_of_an_overdrawn_budget_are_found_and_no_others(work: Work, theirs: Work, key_id: str):
    work.write(budgets.put, work.project_id, key_id, worker_s=100.0)
    theirs.write(budgets.put, theirs.project_id, theirs.project_id, worker_s=100.0)
    theirs.submit()
    running, waiting = work.submit(key_id=key_id), work.submit(key_id=key_id)
    work.submit()
    work.run(running)
    assert work.read(budgets.overdrawn, None, 9) == []
    begun(work, running, 101)
    assert [over.job_id for over in work.read(budgets.overdrawn, None, 9)] == [running, waiting]
    assert [over.job_id for over in work.read(budgets.overdrawn, None, 1)] == [running]


def test_a_job_of_two_overdrawn_budgets_is_listed_once_and_one_that_is_to_stop_not_at_all(work: Work, key_id: str):
    for owner_id in (work.project_id, key_id):
        work.write(budgets.put, work.project_id, owner_id, worker_s=0.0)
    waiting, stopping, pausing = (work.submit(key_id=key_id) for _ in range(3))
    for job_id, order in ((stopping, orders.cancel), (pausing, orders.pause)):
        work.run(job_id)
        work.write(order, work.project_id, job_id)
    assert [over.job_id for over in work.read(budgets.overdrawn, None, 9)] == [waiting]
