"""What an owner asks of a job: to pause, to go on. (To stop: test_jobs.)"""

from typing import Any

import pytest

from db import leases, orders, outbox, queue
from db.models import Attempt
from db.state import JobState
from tests.integration.db.work import Work

FAILURE: dict[str, Any] = {
    "failure": "worker_lost", "code": "worker_lost", "message": "the worker went away", "mend": None,
    "exit_code": None, "max_attempts": 1, "backoff_s": 0.0,
}  # fmt: skip


def order(work: Work, verb: Any, job_id: str) -> str:
    job = work.write(verb, work.project_id, job_id)
    assert job is not None
    return job.state


def outcomes(work: Work, job_id: str) -> list[str | None]:
    with work.database.read() as s:
        return [s.get_one(Attempt, (job_id, number)).outcome for number in range(1, work.job(job_id).fence + 1)]


def sent(work: Work) -> list[str]:
    rows = work.read(outbox.pending, 10)
    work.write(outbox.mark_sent, [row.id for row in rows])
    return [row.job_id for row in rows]


def test_a_waiting_job_is_paused_at_once_and_nobody_can_claim_it(work: Work):
    job_id = work.submit()
    assert order(work, orders.pause, job_id) == "paused"
    assert work.write(leases.claim, job_id, worker="w", lease_s=60) is None


def test_a_running_job_is_told_to_save_at_its_next_renewal(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    assert order(work, orders.pause, job_id) == "pausing"
    assert work.write(leases.renew, job_id, fence, lease_s=60) == leases.Renewal(let_go_requested=True)


def test_a_pausing_job_publishes_its_last_checkpoint_and_is_paused_when_it_is_let_go(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    order(work, orders.pause, job_id)
    assert work.checkpoint(job_id, fence, 7) is not None
    assert work.write(leases.release, job_id, fence, outcome="stopped", message="stopped")
    job = work.job(job_id)
    assert (job.state, job.worker, job.lease_expires_at, job.failures) == ("paused", None, None, 0)
    assert outcomes(work, job_id) == ["paused"]
    assert work.records(job_id)[-1].message == "paused, saved at step 7"


def test_a_job_that_is_paused_while_its_input_is_laid_out_is_taken_from_its_worker(work: Work):
    job_id = work.submit()
    fence = work.claim(job_id)
    assert order(work, orders.pause, job_id) == "paused"
    assert not work.write(leases.begin_running, job_id, fence)
    assert outcomes(work, job_id) == ["paused"]


def test_a_resumed_job_is_queued_and_told_to_the_workers(work: Work):
    job_id = work.submit()
    sent(work)
    order(work, orders.pause, job_id)
    assert order(work, orders.resume, job_id) == "queued"
    assert sent(work) == [job_id]
    assert work.claim(job_id) == 1


def test_a_pause_is_taken_back_before_it_takes_place(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    order(work, orders.pause, job_id)
    assert order(work, orders.resume, job_id) == "running"
    assert work.write(leases.renew, job_id, fence, lease_s=60) == leases.Renewal()


def test_a_job_whose_pause_was_taken_back_after_its_engine_stopped_is_queued_again(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    order(work, orders.pause, job_id)
    order(work, orders.resume, job_id)
    work.write(leases.release, job_id, fence, outcome="stopped", message="stopped")
    assert work.job(job_id).state == "queued"


def test_a_job_that_ends_while_it_is_asked_to_pause_has_ended(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    order(work, orders.pause, job_id)
    assert work.write(leases.settle, job_id, fence, state=JobState.SUCCEEDED)
    assert work.job(job_id).state == "succeeded"


def test_a_pausing_job_whose_worker_is_lost_is_paused_and_has_not_failed(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    order(work, orders.pause, job_id)
    assert work.write(leases.retry_or_fail, job_id, fence, **FAILURE) is JobState.PAUSED
    assert (work.job(job_id).state, work.job(job_id).failures) == ("paused", 0)


@pytest.mark.parametrize("pausing", [True, False])
def test_a_cancel_goes_before_a_pause(work: Work, pausing: bool):
    job_id = work.submit()
    fence = work.run(job_id)
    if pausing:
        order(work, orders.pause, job_id)
    order(work, orders.cancel, job_id)
    assert order(work, orders.pause, job_id) == ("pausing" if pausing else "running")
    work.write(leases.release, job_id, fence, outcome="stopped", message="stopped")
    assert work.job(job_id).state == "cancelled"


def test_a_paused_job_is_cancelled_at_once(work: Work):
    job_id = work.submit()
    order(work, orders.pause, job_id)
    assert order(work, orders.cancel, job_id) == "cancelled"


@pytest.mark.parametrize("verb", [orders.pause, orders.resume])
def test_a_job_that_ended_stays_as_it_is(work: Work, verb: Any):
    job_id = work.submit()
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.SUCCEEDED)
    assert order(work, verb, job_id) == "succeeded"


def test_asking_twice_is_once(work: Work):
    job_id = work.submit()
    work.run(job_id)
    for _ in range(2):
        assert order(work, orders.pause, job_id) == "pausing"
    assert [record.message for record in work.records(job_id)].count(
        "pause requested: the job saves a checkpoint first"
    ) == 1


def test_another_project_can_neither_pause_nor_resume_it(work: Work, theirs: Work):
    job_id = work.submit()
    for verb in (orders.pause, orders.resume):
        assert work.write(verb, theirs.project_id, job_id) is None
    assert work.job(job_id).state == "queued"


def test_a_paused_job_has_no_place_in_the_queue_and_keeps_its_age(work: Work):
    first, second = work.submit(), work.submit()
    order(work, orders.pause, first)
    assert work.read(queue.choose) == second
    order(work, orders.resume, first)
    assert work.read(queue.choose) == first


def failed(work: Work) -> str:
    job_id = work.submit()
    told = {"failure": "out_of_memory", "code": "oom", "message": "no room", "mend": "take less"}
    work.write(leases.settle, job_id, work.run(job_id), state=JobState.FAILED, **told)
    return job_id


def test_a_failed_job_is_tried_again_with_its_failures_counted_anew(work: Work):
    job_id = work.submit()
    assert work.write(leases.retry_or_fail, job_id, work.run(job_id), **FAILURE) is JobState.FAILED
    sent(work)
    assert order(work, orders.retry, job_id) == "queued"
    assert sent(work) == [job_id]
    job = work.job(job_id)
    assert (job.failures, job.finished_at, job.failure_class, job.error_message) == (0, None, None, None)
    assert work.write(leases.retry_or_fail, job_id, work.run(job_id), **(FAILURE | {"max_attempts": 2})) == "queued"
    assert outcomes(work, job_id) == ["failed", "retried"]


def test_a_job_that_is_tried_again_goes_on_from_its_newest_checkpoint(work: Work):
    job_id = work.submit()
    fence = work.run(job_id)
    work.checkpoint(job_id, fence, 5)
    work.write(leases.settle, job_id, fence, state=JobState.FAILED, failure="bug", code="bug", message="", mend="")
    order(work, orders.retry, job_id)
    work.claim(job_id)
    with work.database.read() as s:
        assert s.get_one(Attempt, (job_id, 2)).resume_step == 5


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELLED])
def test_only_a_failed_job_is_tried_again(work: Work, state: JobState):
    job_id = work.submit()
    work.write(leases.settle, job_id, work.run(job_id), state=state)
    assert order(work, orders.retry, job_id) == state


def test_trying_again_twice_is_once(work: Work):
    job_id = failed(work)
    order(work, orders.retry, job_id)
    seq = work.job(job_id).last_seq
    assert order(work, orders.retry, job_id) == "queued"
    assert work.job(job_id).last_seq == seq


def test_another_project_cannot_try_it_again(work: Work, theirs: Work):
    job_id = failed(work)
    assert work.write(orders.retry, theirs.project_id, job_id) is None
    assert work.job(job_id).state == "failed"
