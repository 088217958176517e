"""The outbox: no message is lost, and none is doubled without need."""

import time

from db import leases, outbox
from tests.integration.db.work import Work


def pending(work: Work, limit: int = 10) -> list[str]:
    return [row.job_id for row in work.read(outbox.pending, limit)]


def send(work: Work) -> None:
    work.write(outbox.mark_sent, [row.id for row in work.read(outbox.pending, 10)])


def test_messages_wait_in_the_order_of_their_jobs(work: Work):
    made = [work.submit() for _ in range(3)]
    assert pending(work) == made
    assert pending(work, 2) == made[:2]


def test_a_sent_message_is_not_pending_and_its_job_knows(work: Work):
    job_id = work.submit()
    send(work)
    job = work.job(job_id)
    assert pending(work) == []
    assert job.dispatches == 1
    assert job.dispatched_at is not None
    assert abs(job.dispatched_at - time.time()) < 5


def test_marking_a_message_twice_counts_one_dispatch(work: Work):
    job_id = work.submit()
    ids = [row.id for row in work.read(outbox.pending, 10)]
    for _ in range(2):
        work.write(outbox.mark_sent, ids)
    assert work.job(job_id).dispatches == 1


def test_a_job_has_one_unsent_message_however_often_it_is_added(work: Work):
    job_id = work.submit()
    for _ in range(3):
        work.write(outbox.add, job_id)
    assert pending(work) == [job_id]


def test_a_job_can_be_told_again_after_its_message_was_sent(work: Work):
    job_id = work.submit()
    send(work)
    work.write(outbox.add, job_id)
    send(work)
    assert work.job(job_id).dispatches == 2


def test_a_message_for_later_is_not_pending_yet(work: Work):
    job_id = work.submit()
    work.write(outbox.add, job_id, delay_s=600)
    assert pending(work) == []


def test_a_job_that_is_queued_again_counts_its_dispatches_anew(work: Work):
    job_id = work.submit()
    send(work)
    work.write(leases.release, job_id, work.run(job_id), outcome="stopped", message="the worker stops")
    job = work.job(job_id)
    assert (job.dispatches, job.dispatched_at) == (0, None)
    assert pending(work) == [job_id]


def test_nothing_can_be_marked(work: Work):
    work.write(outbox.mark_sent, [])


def test_only_messages_that_were_sent_a_while_ago_are_dropped(work: Work):
    work.submit()
    send(work)
    waiting = work.submit()
    assert work.write(outbox.purge, 3600) == 0
    assert work.write(outbox.purge, -1) == 1
    assert pending(work) == [waiting]
