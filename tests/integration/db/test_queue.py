"""The queue: whose turn it is, who must wait, and who makes way."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from db import leases, orders, outbox, preemption, projects, queue, records, service_stats, workers
from db.models import Attempt, Job
from db.queue import Place
from db.state import JobState
from tests.integration.db.work import Work, metric

KINDS = ("sft",)


def beat(work: Work, name: str, **changes: Any) -> None:
    told: dict[str, Any] = {"host": "here", "pid": 1, "device": "cpu (2 cores)", "memory_bytes": 2**30}
    told |= {"heartbeat_s": 3.0, "started_at": 1.0}
    work.write(workers.beat, workers.Advert(name=name, **(told | changes)))


def limit(work: Work, **limits: Any) -> None:
    with work.database.write() as s:
        project = projects.get(s, work.project_id)
        assert project is not None
        assert projects.limit(s, project.name, **limits)


def place(work: Work, job_id: str) -> Place:
    with work.database.read() as s:
        return queue.places(s, [work.job(job_id)], workers.look(s))[job_id]


def take(work: Work, worker: str = "w1") -> str | None:
    """The id of the job that the worker is given."""
    claim = work.write(leases.claim_next, worker=worker, lease_s=60)
    return claim.job.id if isinstance(claim, leases.Claim) else None


def order_of(work: Work) -> list[str]:
    """In which the waiting jobs are given to workers, when none of those ends meanwhile."""
    taken = []
    while (job_id := take(work)) is not None:
        taken.append(job_id)
    return taken


def test_of_one_project_the_job_of_highest_priority_goes_first_and_then_the_oldest(work: Work):
    first, later, urgent = work.submit(), work.submit(), work.submit(priority=9)
    assert [place(work, job_id).position for job_id in (urgent, first, later)] == [1, 2, 3]
    assert order_of(work) == [urgent, first, later]


def test_projects_of_one_share_take_turns_however_many_jobs_one_of_them_has(work: Work, theirs: Work):
    mine, other = [work.submit() for _ in range(4)], [theirs.submit() for _ in range(2)]
    turns = [mine[0], other[0], mine[1], other[1], mine[2], mine[3]]
    assert [place(work, job_id).position for job_id in turns] == [1, 2, 3, 4, 5, 6]
    assert order_of(work) == turns


def test_a_project_with_twice_the_share_gets_twice_the_turns(work: Work, theirs: Work):
    limit(theirs, share=2.0)
    mine, other = [work.submit() for _ in range(3)], [theirs.submit() for _ in range(6)]
    taken = order_of(work)[:6]
    assert (len(set(taken) & set(mine)), len(set(taken) & set(other))) == (2, 4)


def test_what_a_project_runs_counts_against_its_turn(work: Work, theirs: Work):
    for _ in range(2):
        work.claim(work.submit())
    mine, other = work.submit(), theirs.submit()
    assert mine < other
    assert take(work) == other


def test_priority_goes_before_the_share(work: Work, theirs: Work):
    work.claim(work.submit())
    theirs.submit()
    urgent = work.submit(priority=1)
    assert take(work) == urgent


def test_a_project_at_its_limit_waits_and_the_others_go_on(work: Work, theirs: Work):
    limit(work, max_running_jobs=1)
    first, second, third = work.submit(), work.submit(priority=50), work.submit(priority=50)
    other = theirs.submit()
    assert order_of(work) == [second, other]
    assert [place(work, job_id) for job_id in (third, first)] == [Place(1, 1), Place(2, 2)]


def test_a_job_goes_on_once_its_project_is_below_its_limit(work: Work):
    limit(work, max_running_jobs=1)
    first, second = work.submit(), work.submit()
    fence = work.run(first)
    assert take(work) is None
    assert work.read(queue.startable) == 0
    work.write(leases.release, first, fence, outcome="stopped", message="")
    work.write(orders.cancel, work.project_id, first)
    assert work.read(queue.startable) == 1
    assert take(work) == second


def test_a_limit_can_be_lifted(work: Work):
    limit(work, max_running_jobs=0)
    job_id = work.submit()
    assert take(work) is None
    limit(work, max_running_jobs=-1)
    assert take(work) == job_id


def test_claims_at_once_do_not_go_over_the_limit(work: Work):
    limit(work, max_running_jobs=3)
    for _ in range(8):
        work.submit()
    together, taken = threading.Barrier(8), []

    def claim(number: int) -> None:
        together.wait()
        taken.append(take(work, f"w{number}"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job_id for job_id in taken if job_id}) == 3


def test_a_job_whose_time_has_not_come_is_passed_over(work: Work):
    first, second = work.submit(), work.submit()
    work.write(leases.release, first, work.run(first), outcome="no_space", message="", delay_s=60)
    assert take(work) == second
    assert take(work) is None


def test_a_worker_that_misses_two_heartbeats_is_lost(work: Work):
    beat(work, "quick", heartbeat_s=0.1)
    beat(work, "slow", heartbeat_s=60)
    time.sleep(0.25)
    fleet = work.read(workers.look)
    assert {worker.name: fleet.state_of(worker) for worker in fleet.workers} == {"quick": "lost", "slow": "idle"}
    assert fleet.alive() == {"slow"}


def test_a_worker_is_busy_while_it_holds_a_job_and_stopped_when_it_says_so(work: Work):
    for name in ("at work", "gone"):
        beat(work, name)
    work.claim(work.submit(), worker="at work")
    work.write(workers.leave, "gone")
    fleet = work.read(workers.look)
    assert {worker.name: fleet.state_of(worker) for worker in fleet.workers} == {"at work": "busy", "gone": "stopped"}
    assert fleet.free() == 0
    beat(work, "gone")
    assert work.read(workers.look).free() == 1


def test_workers_that_were_not_heard_of_for_long_are_forgotten(work: Work):
    beat(work, "here")
    assert work.write(workers.forget, 60) == 0
    assert work.write(workers.forget, -1) == 1


def running_with(work: Work, worker: str, eta_s: float, **changes: Any) -> str:
    beat(work, worker)
    job_id = work.submit(**changes)
    fence = work.claim(job_id, worker=worker)
    with work.database.write() as s:
        assert leases.begin_running(s, job_id, fence)
        told = metric(1, values={"loss": 1.0, "eta_s": eta_s})
        assert records.append(s, job_id, fence, events=[], metrics=[told], lease_s=60)
    return job_id


def test_a_job_should_start_when_the_first_running_one_ends_and_the_next_after_that(work: Work):
    running_with(work, "w1", 100.0)
    running_with(work, "w2", 40.0)
    fleet = work.read(workers.look)
    starts = [fleet.starts_in_s(position) for position in (1, 2, 3)]
    assert starts == pytest.approx([40.0, 100.0, 40.0 + 70.0], abs=2)


def test_a_free_worker_takes_the_next_job_now(work: Work):
    running_with(work, "w1", 100.0)
    beat(work, "w2")
    fleet = work.read(workers.look)
    assert fleet.starts_in_s(1) == 0.0
    assert fleet.starts_in_s(2) == pytest.approx(100.0, abs=2)


def test_no_start_is_told_where_a_running_job_says_nothing_of_its_end(work: Work):
    beat(work, "w1")
    work.run(work.submit())
    assert work.read(workers.look).starts_in_s(1) is None


def arrange(work: Work, after_s: float = 0.0) -> str | None:
    job = work.write(preemption.arrange, kinds=KINDS, after_s=after_s)
    return job and job.id


def test_the_running_job_of_lowest_priority_makes_way_for_a_higher_one_and_both_are_told(work: Work):
    low, middle = running_with(work, "w1", 9.0), running_with(work, "w2", 9.0, priority=1)
    high = work.submit(priority=2)
    assert arrange(work) == low
    assert arrange(work) is None  # one makes way for one
    assert work.write(leases.renew, low, 1, lease_s=60) == leases.Renewal(let_go_requested=True)
    assert work.write(leases.renew, middle, 1, lease_s=60) == leases.Renewal()
    assert [record.message for record in work.records(low) if record.type == "preempted"] == [
        f"makes way for {high} of priority 2: it saves a checkpoint first"
    ]
    assert [record.message for record in work.records(high) if record.type == "preempting"] == [
        f"{low} of priority 0 makes way for this one"
    ]
    work.write(leases.release, low, 1, outcome="stopped", message="stopped")
    assert (work.job(low).state, work.job(low).preempted_by, work.job(low).failures) == ("queued", None, 0)
    assert [take(work), take(work)] == [high, low]


def test_a_job_of_another_project_is_not_named_to_the_one_that_makes_way(work: Work, theirs: Work):
    low = running_with(work, "w1", 9.0)
    high = theirs.submit(priority=2)
    assert arrange(work) == low
    told = [record.message or "" for record in (*work.records(low), *work.records(high))]
    assert not [message for message in told if low in message or high in message]
    assert "makes way for a job of priority 2: it saves a checkpoint first" in told


def test_none_makes_way_while_a_worker_is_free(work: Work):
    running_with(work, "w1", 9.0)
    beat(work, "w2")
    work.submit(priority=2)
    assert arrange(work) is None


def test_none_makes_way_for_one_of_the_same_priority(work: Work):
    running_with(work, "w1", 9.0)
    work.submit()
    assert arrange(work) is None


def test_none_makes_way_before_the_other_has_waited(work: Work):
    low = running_with(work, "w1", 9.0)
    work.submit(priority=2)
    assert arrange(work, after_s=60) is None
    assert arrange(work, after_s=0) == low


@pytest.mark.parametrize("began", ["resumed", "tried again"])
def test_a_job_waits_anew_from_when_it_is(work: Work, began: str):
    high = work.submit(priority=2)
    if began == "resumed":
        work.write(orders.pause, work.project_id, high)
    else:
        fence = work.run(high)
        work.write(leases.settle, high, fence, state=JobState.FAILED, failure="bug", code="c", message="m", mend="n")
    with work.database.write() as s:
        s.execute(update(Job).values(created_at=Job.created_at - 3600, queued_at=Job.queued_at - 3600))
        s.execute(update(Attempt).values(ended_at=Attempt.ended_at - 3600))
    low = running_with(work, "w1", 9.0)
    work.write(orders.resume if began == "resumed" else orders.retry, work.project_id, high)
    assert arrange(work, after_s=600) is None
    assert arrange(work, after_s=0) == low


@pytest.mark.parametrize("order", [orders.cancel, orders.pause])
def test_none_makes_way_for_one_that_no_longer_waits(work: Work, order: Callable[..., object]):
    low = running_with(work, "w1", 9.0)
    high = work.submit(priority=2)
    assert arrange(work) == low
    work.write(order, work.project_id, high)
    assert work.write(leases.renew, low, 1, lease_s=60) == leases.Renewal()


def test_what_cannot_save_does_not_make_way(work: Work):
    running_with(work, "w1", 9.0, kind="eval")
    work.submit(priority=2)
    assert arrange(work) is None


def test_none_makes_way_for_one_that_its_project_keeps_waiting(work: Work, theirs: Work):
    limit(theirs, max_running_jobs=0)
    running_with(work, "w1", 9.0)
    theirs.submit(priority=2)
    assert arrange(work) is None


LABELS = {"gpu": "h100"}


def labelled(work: Work, priority: int, **resources: Any) -> str:
    spec = {"kind": "sft", "resources": {"labels": LABELS, **resources}}
    return work.submit(spec=spec, priority=priority)


def begun(work: Work, worker: str, **changes: Any) -> str:
    """A job that runs on that worker."""
    job_id = work.submit(**changes)
    fence = work.claim(job_id, worker=worker)
    with work.database.write() as s:
        assert leases.begin_running(s, job_id, fence)
    return job_id


def test_one_makes_way_for_a_job_behind_one_that_nobody_can_make_way_for(work: Work):
    beat(work, "gpu1", labels=LABELS)
    beat(work, "cpu1")
    begun(work, "gpu1", priority=10)
    low = begun(work, "cpu1")
    labelled(work, 10)
    behind = work.submit(priority=5)
    assert arrange(work) == low
    assert work.job(low).preempted_by == behind
    assert arrange(work) is None


def test_none_makes_way_for_a_job_whose_worker_would_wait_for_the_one_ahead(work: Work):
    for name in ("w1", "w2"):
        beat(work, name)
    begun(work, "w1", priority=10)
    begun(work, "w2")
    work.submit(priority=10, spec={"kind": "sft", "resources": {"num_nodes": 2}})
    work.submit(priority=5)
    assert arrange(work) is None


def test_a_worker_that_waits_for_a_gang_is_not_free_for_the_jobs_behind(work: Work):
    for name in ("gpu1", "gpu2"):
        beat(work, name, labels=LABELS)
    beat(work, "cpu1")
    begun(work, "gpu1", priority=10)
    low = begun(work, "cpu1")
    labelled(work, 10, num_nodes=2)
    work.submit(priority=5)
    assert arrange(work) is None
    assert isinstance(work.write(leases.claim_next, worker="gpu2", lease_s=60), leases.Offer)
    assert arrange(work) == low


def test_whether_one_is_to_make_way_is_known_from_the_priorities(work: Work):
    def is_due() -> bool:
        return work.read(preemption.is_due, kinds=KINDS)

    assert not is_due()
    beat(work, "w1")
    low = begun(work, "w1")
    work.submit()
    assert not is_due()
    work.submit(priority=1)
    assert is_due()
    assert arrange(work) == low
    assert not is_due()


def test_a_message_that_came_to_the_wrong_worker_is_passed_on_for_a_job_that_an_idle_one_may_take(work: Work):
    beat(work, "gpu1", labels=LABELS)
    beat(work, "cpu1")
    beat(work, "cpu2", labels={"zone": "a"})
    begun(work, "gpu1")
    labelled(work, 10)
    behind = work.submit(priority=5, spec={"kind": "sft", "resources": {"labels": {"zone": "a"}}})
    with work.database.write() as s:
        outbox.mark_sent(s, [message.id for message in outbox.pending(s, 10)])
    assert take(work, "cpu1") is None
    wait_until(lambda: [message.job_id for message in work.read(outbox.pending, 10)] == [behind])


def wait_until(truth: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pause_goes_before_making_way(work: Work):
    low = running_with(work, "w1", 9.0)
    work.submit(priority=2)
    assert arrange(work) == low
    work.write(orders.pause, work.project_id, low)
    work.write(leases.release, low, 1, outcome="stopped", message="stopped")
    assert (work.job(low).state, work.job(low).preempted_by) == ("paused", None)


def test_the_longest_wait_is_counted_from_when_the_job_was_queued_last(work: Work):
    job_id = work.submit()
    with work.database.write() as s:
        s.get_one(Job, job_id).created_at -= 3600  # it has run and waits again
    assert work.read(service_stats.oldest_queued_at) == work.job(job_id).queued_at
