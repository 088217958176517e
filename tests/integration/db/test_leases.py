"""Leases: one holder, and no other."""

import threading
import time

import pytest

from db import leases, orders, outbox, queue
from db.models import Attempt
from db.session import Database
from db.state import JobState
from tests.integration.db.work import Work

FAILURE = {
    "failure": "worker_lost",
    "code": "worker_lost",
    "message": "the worker went away",
    "mend": None,
    "exit_code": None,
    "max_attempts": 3,
}


def attempt(work: Work, job_id: str, number: int) -> Attempt:
    with work.database.read() as s:
        return s.get_one(Attempt, (job_id, number))


def retry(work: Work, job_id: str, fence: int, **changes) -> JobState | None:
    return work.write(leases.retry_or_fail, job_id, fence, **(FAILURE | {"backoff_s": 0.0} | changes))


def test_of_20_threads_that_claim_a_job_exactly_one_gets_it(database: Database, work: Work):
    job_id = work.submit()
    together = threading.Barrier(20)
    claims = []

    def claim(number: int) -> None:
        together.wait()
        with database.write() as s:
            claims.append(leases.claim(s, job_id, worker=f"w{number}", lease_s=60))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 20
    assert [claim.fence for claim in claims if claim] == [1]
    assert work.job(job_id).fence == 1


def test_a_claim_holds_the_job_for_the_length_of_the_lease(work: Work):
    job_id = work.submit()
    before = time.time()
    work.claim(job_id, lease_s=60, worker="here")
    job = work.job(job_id)
    assert (job.state, job.worker) == ("preparing", "here")
    assert job.lease_expires_at is not None
    assert job.heartbeat_at is not None
    assert job.lease_expires_at - job.heartbeat_at == pytest.approx(60, abs=0.1)  # PostgreSQL's clock goes on between
    assert job.heartbeat_at == pytest.approx(before, abs=5)


def test_a_claim_begins_an_attempt_that_knows_where_it_resumes(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    work.checkpoint(job_id, fence, 40)
    work.write(leases.release, job_id, fence, outcome="stopped", message="the worker stops")
    work.claim(job_id)
    assert attempt(work, job_id, 1).resume_step is None
    assert attempt(work, job_id, 2).resume_step == 40


def test_a_job_that_does_not_exist_cannot_be_claimed(work: Work):
    assert work.write(leases.claim, "job-nothing", worker="w", lease_s=60) is None


def test_a_renewal_moves_the_end_of_the_lease(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id, lease_s=5)
    assert work.write(leases.renew, job_id, fence, lease_s=600) == leases.Renewal()
    assert work.job(job_id).lease_expires_at > time.time() + 500


def test_a_lease_that_ran_out_cannot_be_renewed(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id, lease_s=0)
    assert work.write(leases.renew, job_id, fence, lease_s=60) is None


def test_running_begins_once(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id)
    assert work.write(leases.begin_running, job_id, fence)
    assert work.write(leases.begin_running, job_id, fence), "the answer to the first may have been lost"
    assert work.job(job_id).state == "running"
    assert [record.message for record in work.records(job_id)].count("running") == 1


def test_a_second_attempt_keeps_the_time_of_the_first_start(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    started_at = work.job(job_id).started_at
    work.write(leases.release, job_id, fence, outcome="stopped", message="the worker stops")
    work.run(job_id)
    assert started_at is not None
    assert work.job(job_id).started_at == started_at


def test_a_released_job_waits_in_the_queue_and_in_the_outbox(work: Work):
    job_id = work.submit()
    work.write(outbox.mark_sent, [row.id for row in work.read(outbox.pending, 10)])
    fence = work.run(job_id)
    assert work.write(leases.release, job_id, fence, outcome="stopped", message="the worker stops")
    job = work.job(job_id)
    assert (job.state, job.worker, job.lease_expires_at, job.failures) == ("queued", None, None, 0)
    assert [row.job_id for row in work.read(outbox.pending, 10)] == [job_id]
    assert attempt(work, job_id, fence).outcome == "stopped"


def test_a_job_released_for_later_is_neither_claimed_nor_told_before(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    work.write(leases.release, job_id, fence, outcome="stopped", message="the worker stops", delay_s=600)
    assert work.write(leases.claim, job_id, worker="w2", lease_s=60) is None
    assert work.read(outbox.pending, 10) == []
    assert work.read(leases.unclaimed, 0, 10) == []


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_settling_ends_the_job_and_the_attempt(work: Work, state: JobState):
    job_id = work.submit()
    fence = work.run(job_id)
    told = {"failure": "data_error", "code": "no_rows", "message": "the file is empty", "mend": "add rows"}
    assert work.write(leases.settle, job_id, fence, state=state, **told, exit_code=65)
    job, ended = work.job(job_id), attempt(work, job_id, fence)
    assert (job.state, job.lease_expires_at) == (state, None)
    assert job.finished_at is not None
    assert (ended.outcome, ended.exit_code) == (state, 65)
    assert ended.ended_at is not None


def test_an_end_that_the_table_forbids_ends_neither_the_job_nor_the_attempt(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id)
    assert not work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert (work.job(job_id).state, attempt(work, job_id, fence).ended_at) == ("preparing", None)


def test_a_failed_job_says_why(work: Work):
    job_id = work.submit()
    told = {"failure": "data_error", "code": "no_rows", "message": "the file is empty", "mend": "add rows"}
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.FAILED, **told)
    job = work.job(job_id)
    assert (job.failure_class, job.error_code) == ("data_error", "no_rows")
    assert (job.error_message, job.error_mend) == ("the file is empty", "add rows")


def test_a_job_that_never_ran_cannot_succeed(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id)
    assert not work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert work.job(job_id).state == "preparing"


def test_failures_in_a_row_end_the_job(work: Work):
    job_id = work.submit()
    states = [retry(work, job_id, work.run(job_id)) for _ in range(3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert (work.job(job_id).failures, work.job(job_id).error_code) == (3, "worker_lost")


def test_a_newer_checkpoint_begins_the_count_anew(work: Work):
    job_id = work.submit()
    for step in range(1, 6):
        fence = work.run(job_id)
        work.checkpoint(job_id, fence, step)
        assert retry(work, job_id, fence) is JobState.QUEUED
    assert work.job(job_id).failures == 1


def test_a_checkpoint_of_an_earlier_attempt_is_no_progress_of_this_one(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    work.checkpoint(job_id, fence, 10)
    retry(work, job_id, fence)
    retry(work, job_id, work.run(job_id))
    assert work.job(job_id).failures == 2


def test_the_wait_doubles_with_each_failure_in_a_row(work: Work):
    job_id = work.submit()
    waits = []
    for _ in range(2):
        fence = work.run(job_id)
        asked_at = time.time()
        retry(work, job_id, fence, backoff_s=100)
        waits.append(work.job(job_id).not_before - asked_at)
        with work.database.write() as s:
            leases.jobs.find(s, job_id).not_before = None
    assert waits == [pytest.approx(100, abs=5), pytest.approx(200, abs=5)]


def test_a_job_that_was_to_stop_is_cancelled_instead_of_queued_again(work: Work):
    for give_up in ("release", "retry"):
        job_id = work.submit()
        fence = work.run(job_id)
        work.write(orders.cancel, work.project_id, job_id)
        if give_up == "release":
            assert work.write(leases.release, job_id, fence, outcome="stopped", message="the worker stops")
        else:
            assert retry(work, job_id, fence) is JobState.CANCELLED
        assert work.job(job_id).state == "cancelled"


def test_leases_that_ran_out_are_listed_and_others_are_not(work: Work):
    lost, held, waiting = work.submit(), work.submit(), work.submit()
    work.claim(lost, lease_s=0)
    work.claim(held)
    assert waiting
    assert [job.id for job in work.read(leases.expired, 10)] == [lost]


def test_a_lease_that_ran_out_can_still_be_given_up(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id, lease_s=0)
    assert retry(work, job_id, fence) is JobState.QUEUED


def test_a_worker_that_starts_frees_what_it_held_before(work: Work):
    mine, others = work.submit(), work.submit()
    work.claim(mine, worker="restarted")
    work.claim(others, worker="busy")
    assert work.write(leases.expire_worker, "restarted") == 1
    assert [job.id for job in work.read(leases.expired, 10)] == [mine]


def test_a_job_is_unclaimed_once_its_message_is_old(work: Work):
    job_id = work.submit()
    assert work.read(leases.unclaimed, 60, 10) == []
    assert [job.id for job in work.read(leases.unclaimed, 0, 10)] == [job_id]


def test_a_message_that_was_sent_often_is_waited_for_no_longer(work: Work):
    job_id = work.submit()
    with work.database.write() as s:
        job = leases.jobs.find(s, job_id)
        job.dispatches, job.dispatched_at = 60, time.time() - 6
    assert [job.id for job in work.read(leases.unclaimed, 5, 10)] == [job_id]


def test_as_many_messages_are_wanted_as_jobs_wait_whose_time_has_come(work: Work):
    work.submit()
    work.claim(work.submit())
    later = work.submit()
    work.write(leases.release, later, work.run(later), outcome="stopped", message="later", delay_s=600)
    assert work.read(queue.startable) == 1


def test_the_more_urgent_of_the_unclaimed_come_first(work: Work):
    low, high = work.submit(priority=-1), work.submit(priority=5)
    assert [job.id for job in work.read(leases.unclaimed, 0, 10)] == [high, low]
