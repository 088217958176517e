"""Jobs that need several workers: all of them or none, whoever comes when."""

import os
import random
import threading
import time
from typing import Any

import pytest
from sqlalchemy import update

from db import gangs, leases, orders, outbox, queue, spend, workers
from db.gangs import Meeting
from db.models import GangMember, Job, Worker
from db.session import Database
from tests.integration.db.test_queue import beat
from tests.integration.db.work import Work
from workers import gang
from workers.settings import WorkerSettings

MEETING = Meeting("10.0.0.1", 4321)
TWO = {"kind": "sft", "resources": {"num_nodes": 2}}
THREE = {"kind": "sft", "resources": {"num_nodes": 3}}
TRIES = int(os.environ.get("TRAINYARD_TRIES", "40"))


def take(work: Work, worker: str, *, waits: bool = False) -> Any:
    """As a worker does that comes for a job, or comes again."""
    with work.database.write() as s:
        part = gangs.enlisted(s, worker) if waits else None
        return part or leases.claim_next(s, worker=worker, lease_s=60, meeting=MEETING, waits=waits)


def two(work: Work, *names: str, spec: dict[str, Any] | None = None) -> str:
    for name in names:
        beat(work, name)
    return work.submit(spec=spec or TWO)


def formed(work: Work) -> tuple[str, leases.Claim, gangs.Enlisted]:
    """A gang of a, which waited, and b, which leads."""
    job_id = two(work, "a", "b")
    take(work, "a")
    return job_id, take(work, "b"), take(work, "a", waits=True)


def fault(work: Work, job_id: str, fence: int) -> gangs.Fault | None:
    return work.read(gangs.fault, job_id, fence)


def test_the_last_that_comes_leads_and_the_others_have_parts(work: Work):
    job_id = two(work, "a", "b")
    assert take(work, "a") == leases.Offer(job_id, waiting=1, wanted=2)
    assert work.job(job_id).state == "queued"
    claim = take(work, "b")
    assert claim.gang == gangs.Gang(0, 2, MEETING)
    assert (work.job(job_id).worker, work.job(job_id).fence) == ("b", 1)
    part = take(work, "a", waits=True)
    assert (part.job.id, part.fence, part.gang) == (job_id, 1, gangs.Gang(1, 2, MEETING))
    assert [record.message for record in work.records(job_id) if record.type == "gang"] == [
        "2 workers carry it out together: b, which leads at 10.0.0.1, a"
    ]


def test_who_offers_itself_sends_for_the_next_and_does_so_once(work: Work):
    job_id = two(work, "a", "b")
    with work.database.write() as s:
        outbox.mark_sent(s, [message.id for message in outbox.pending(s, 10)])
    take(work, "a")
    with work.database.write() as s:
        sent = outbox.pending(s, 10)
        assert [message.job_id for message in sent] == [job_id]
        outbox.mark_sent(s, [message.id for message in sent])
    take(work, "a", waits=True)
    assert work.read(outbox.pending, 10) == []


def test_a_job_for_more_workers_than_there_are_holds_up_no_other(work: Work):
    big = two(work, "a")
    small = work.submit()
    assert work.read(queue.startable) == 1
    assert take(work, "a").job.id == small
    beat(work, "b")
    assert take(work, "b") == leases.Offer(big, 1, 2)


def test_fewer_will_do_where_no_more_are_alive(work: Work):
    elastic = {"kind": "sft", "resources": {"num_nodes": 3, "min_nodes": 2}}
    job_id = two(work, "a", "b", spec=elastic)
    assert work.job(job_id).nodes == 2
    assert take(work, "a") == leases.Offer(job_id, 1, 2)
    assert take(work, "b").gang.num_nodes == 2
    one = two(work, spec={"kind": "sft", "resources": {"num_nodes": 2, "min_nodes": 1}})
    with work.database.write() as s:
        s.execute(update(Worker).where(Worker.name != "a").values(stopped_at=1.0))
    taken = take(work, "a")
    assert (taken.job.id, taken.gang) == (one, None)


def test_an_offer_that_is_not_made_again_counts_no_more(work: Work):
    job_id = two(work, "a", "b")
    take(work, "a")
    with work.database.write() as s:
        s.execute(update(Worker).values(offers_until=1.0))
    assert take(work, "b") == leases.Offer(job_id, 1, 2)


def test_a_heartbeat_leaves_an_offer_as_it_is(work: Work):
    two(work, "a", "b")
    take(work, "a")
    beat(work, "a")
    assert take(work, "b").gang.num_nodes == 2


def test_who_has_no_address_for_the_others_waits_and_another_leads(work: Work):
    job_id = two(work, "a", "b")
    take(work, "a")
    beat(work, "b", host="there")
    for meeting in (None, Meeting("127.0.0.1", 1)):
        with work.database.write() as s:
            told = leases.claim_next(s, worker="b", lease_s=60, meeting=meeting)
        assert told == leases.Offer(job_id, 2, 2)
    assert take(work, "a", waits=True).gang.node_rank == 0


def test_workers_that_are_busy_are_not_waited_for_where_fewer_will_do(work: Work):
    beat(work, "a")
    beat(work, "b")
    work.claim(work.submit(), worker="b")
    job_id = two(work, spec={"kind": "sft", "resources": {"num_nodes": 2, "min_nodes": 1}})
    assert take(work, "a").job.id == job_id


def test_workers_that_wait_for_another_gang_are_not_waited_for_where_fewer_will_do(work: Work):
    for name, zone in (("a", "y"), ("b", "y"), ("c", "x"), ("d", "x")):
        beat(work, name, labels={"zone": zone})
    work.claim(work.submit(), worker="d")
    pair = {"kind": "sft", "resources": {"num_nodes": 2, "labels": {"zone": "x"}}}
    stuck = work.submit(spec=pair, priority=1)
    assert take(work, "c") == leases.Offer(stuck, 1, 2)
    elastic = work.submit(spec={"kind": "sft", "resources": {"num_nodes": 3, "min_nodes": 2}})
    assert take(work, "a") == leases.Offer(elastic, 1, 2)
    assert take(work, "b").gang.num_nodes == 2
    assert take(work, "c", waits=True) == leases.Offer(stuck, 1, 2)


def test_who_waited_for_another_gang_counts_for_the_one_that_it_asks_for_now(work: Work):
    two(work, "a", "b", "c")
    take(work, "a")
    elastic = work.submit(spec={"kind": "sft", "resources": {"num_nodes": 3, "min_nodes": 2}}, priority=1)
    assert take(work, "a", waits=True) == leases.Offer(elastic, 1, 3)


def test_who_waited_for_a_job_that_is_cancelled_is_waited_for(work: Work):
    gone = two(work, "a", "b")
    take(work, "a")
    work.write(orders.cancel, work.project_id, gone)
    elastic = work.submit(spec={"kind": "sft", "resources": {"num_nodes": 2, "min_nodes": 1}})
    assert take(work, "b") == leases.Offer(elastic, 1, 2)


def test_who_waited_for_a_job_that_is_behind_by_now_is_waited_for(work: Work):
    two(work, "a", "b", "c", spec=THREE)
    take(work, "a")
    elastic = work.submit(spec={"kind": "sft", "resources": {"num_nodes": 2, "min_nodes": 1}}, priority=1)
    assert take(work, "b") == leases.Offer(elastic, 1, 2)


def test_who_is_enlisted_while_it_asks_takes_no_other_job(work: Work):
    """It asks behind the lock under which it is enlisted: what it looked at before would say nothing of that."""
    job_id = two(work, "a", "b")
    plain = work.submit()
    take(work, "a")
    settings = WorkerSettings(database_url=work.database.url)
    got: list[Any] = []
    other = Database(work.database.url)
    asking = threading.Thread(target=lambda: got.append(gang.take(other, "a", settings, waits=True)))
    with work.database.write() as s:
        assert queue.choose(s, "b") == job_id
        asking.start()
        time.sleep(0.3)
        claim = leases.claim_next(s, worker="b", lease_s=60, meeting=MEETING)
    asking.join()
    other.close()
    assert isinstance(claim, leases.Claim)
    assert isinstance(got[0], gang.Part)
    assert got[0].job.id == job_id
    assert work.job(plain).state == "queued"


def test_what_is_told_of_why_comes_before_what_is_not_known_and_that_before_what_others_noticed(work: Work):
    for name in ("a", "b", "c", "d"):
        beat(work, name)
    job_id = work.submit(spec={"kind": "sft", "resources": {"num_nodes": 4}})
    for name in ("a", "b", "c"):
        take(work, name)
    fence = take(work, "d").fence

    def heard() -> gangs.Fault | None:
        return work.read(gangs.fault, job_id, fence, vague="touch_lost")

    work.write(gangs.end, job_id, fence, 1, {"code": "touch_lost"})
    assert heard() == gangs.Fault("a", {"code": "touch_lost"})
    with work.database.write() as s:
        s.execute(update(GangMember).where(GangMember.node_rank == 2).values(lease_expires_at=1.0))
    assert heard() == gangs.Fault("b", None)
    work.write(gangs.end, job_id, fence, 3, {"code": "out_of_memory"})
    assert heard() == gangs.Fault("c", {"code": "out_of_memory"})


def test_a_part_is_kept_as_long_as_both_leases_hold(work: Work):
    job_id, claim, part = formed(work)
    assert work.write(gangs.renew, job_id, part.fence, 1, lease_s=60) == leases.Renewal()
    assert work.read(gangs.busy) == {"a": job_id}
    with work.database.write() as s:
        s.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=1.0))
    assert work.write(gangs.renew, job_id, part.fence, 1, lease_s=60) is None
    assert take(work, "a", waits=True) is None
    assert claim.fence == part.fence


def test_a_part_that_ran_out_is_over_and_the_leader_hears_of_it(work: Work):
    job_id, claim, _ = formed(work)
    assert fault(work, job_id, claim.fence) is None
    with work.database.write() as s:
        s.execute(update(GangMember).values(lease_expires_at=1.0))
    assert fault(work, job_id, claim.fence) == gangs.Fault("a", None)
    assert work.write(gangs.renew, job_id, claim.fence, 1, lease_s=60) is None


@pytest.mark.parametrize("failure", [None, {"code": "out_of_memory"}])
def test_the_leader_hears_how_the_others_ended(work: Work, failure: dict[str, Any] | None):
    job_id, claim, _ = formed(work)
    work.write(gangs.end, job_id, claim.fence, 1, failure)
    assert fault(work, job_id, claim.fence) == (failure and gangs.Fault("a", failure))
    assert work.read(gangs.busy) == {}


def test_parts_that_nobody_ended_end_with_their_attempt(work: Work):
    job_id, claim, _ = formed(work)
    assert work.write(leases.release, job_id, claim.fence, outcome="stopped", message="")
    assert work.read(lambda s: s.get_one(GangMember, (job_id, claim.fence, 1)).ended_at) is not None


def test_a_worker_that_starts_again_has_lost_its_part(work: Work):
    job_id, claim, _ = formed(work)
    work.write(leases.expire_worker, "a")
    assert fault(work, job_id, claim.fence) == gangs.Fault("a", None)


def test_all_workers_of_a_gang_are_busy_and_paid_for(work: Work):
    job_id, claim, _ = formed(work)
    fleet = work.read(workers.look)
    assert [fleet.state_of(worker) for worker in fleet.workers] == ["busy", "busy"]
    assert fleet.free() == 0
    with work.database.write() as s:
        spend.book(s, job_id, claim.fence, 0.0, 10.0)
        assert spend.report(s, "kind", since=0, until=0)[0].worker_s == 20.0


def carry_out(work: Work, worker: str, pauses: random.Random, done: list[str], count: int) -> None:
    """Come for jobs until so many are done."""
    waits, nap = False, threading.Event()
    deadline = time.monotonic() + 20
    while len(done) < count and time.monotonic() < deadline:
        taken = take(work, worker, waits=waits)
        waits = isinstance(taken, leases.Offer)
        if isinstance(taken, leases.Claim):
            assert worker not in work.read(gangs.busy)
            work.write(leases.release, taken.job.id, taken.fence, outcome="stopped", message="done", delay_s=900)
            done.append(taken.job.id)
        nap.wait(pauses.uniform(0, 0.005))


@pytest.mark.timeout(240)
def test_gangs_that_each_need_all_workers_never_wait_for_each_other(work: Work):
    """In whatever order workers and jobs come, both are carried out, each once."""
    names = ("a", "b", "c")
    for seed in range(TRIES):
        rng = random.Random(seed)
        for name in names:
            beat(work, name)
        jobs = [work.submit(spec=THREE, priority=rng.choice((0, 1))) for _ in range(2)]
        done: list[str] = []
        threads = [
            threading.Thread(target=carry_out, args=(work, name, random.Random(f"{seed} {name}"), done, len(jobs)))
            for name in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == sorted(jobs), f"seed {seed}"
