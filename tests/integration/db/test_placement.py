"""Which worker may take which job."""

from typing import Any

import pytest
from sqlalchemy import func, select

from db import gangs, jobs, leases, outbox, placement, preemption, workers
from db.gangs import Meeting
from db.models import Outbox
from tests.integration.db.test_queue import KINDS, beat, take
from tests.integration.db.work import Work

ANY: dict[str, str] = {}
FAST = {"gpu": "h100"}
EIGHT: dict[str, Any] = {"memory_bytes": 8 * 80 * 2**30, "gpus": 8}


def submit(work: Work, labels: dict[str, str], **resources: Any) -> str:
    return work.submit(spec={"kind": "sft", "resources": {"labels": labels, **resources}})


def unsent(work: Work) -> int:
    """How many messages are still to be sent, now or soon."""
    with work.database.read() as s:
        return s.execute(select(func.count()).where(Outbox.sent_at.is_(None))).scalar_one()


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, ""),
        ({"resources": {"device": "cpu"}}, ""),
        ({"resources": {"device": "cuda", "labels": {"zone": "a", "cpu": "amx"}}}, "cpu=amx,device=cuda,zone=a"),
        ({"resources": {"device": "cuda", "nproc_per_node": 8}}, "device=cuda,gpus>=8"),
        ({"resources": {"device": "cuda", "labels": {"device": "cuda"}}}, "device=cuda"),
    ],
)
def test_what_a_job_requires_is_written_in_one_way(spec: dict[str, Any], text: str):
    assert placement.required(spec) == text


@pytest.mark.parametrize(
    ("resources", "gib", "text"),
    [
        ({"device": "cpu"}, 3.9, ""),  # any worker has that
        ({"device": "cpu"}, 40.7, "memory>=40"),
        ({"device": "cpu", "nproc_per_node": 4}, 10, "memory>=40"),  # they share the machine's
        ({"device": "cuda", "nproc_per_node": 4}, 70, "device=cuda,gpus>=4,memory>=70"),  # each has its own
    ],
)
def test_a_job_with_a_plan_asks_for_the_memory_of_its_processes(resources: dict[str, Any], gib: float, text: str):
    assert placement.required({"resources": resources}, int(gib * 2**30)) == text


@pytest.mark.parametrize(
    ("has", "asked", "may"),
    [
        ({"memory_bytes": 40 * 2**30}, "memory>=40", True),
        ({"memory_bytes": 39 * 2**30}, "memory>=40", False),
        ({**EIGHT, "labels": {"device": "cuda"}}, "device=cuda,gpus>=8,memory>=80", True),
        ({**EIGHT, "labels": {"device": "cuda"}}, "device=cuda,memory>=81", False),  # of one of them
        ({**EIGHT, "labels": {"device": "cuda"}}, "memory>=81", True),  # a job on the CPU: nobody knows what is there
        (EIGHT, "gpus>=9", False),
        ({"memory_bytes": 80 * 2**30}, "gpus>=1", False),
    ],
)
def test_a_worker_takes_a_job_that_it_has_the_devices_for(work: Work, has: dict[str, Any], asked: str, may: bool):
    beat(work, "w1", **has)
    with work.database.read() as s:
        (there,) = placement.present(s)
    assert placement.answers(there, asked) == may


def test_a_job_goes_to_the_worker_that_has_the_memory_of_its_plan(work: Work):
    beat(work, "small", memory_bytes=16 * 2**30)
    beat(work, "large", memory_bytes=64 * 2**30)
    job_id = work.submit(spec={"kind": "sft"}, needed_bytes=40 * 2**30)
    later = work.submit(spec={"kind": "sft"})
    assert take(work, "small") == later
    assert take(work, "large") == job_id


@pytest.mark.parametrize(
    ("labels", "may"),
    [(FAST, True), (FAST | {"zone": "a", "device": "cuda"}, True), ({"gpu": "a100"}, False), ({"zone": "h100"}, False)],
)
def test_a_worker_takes_a_job_whose_labels_it_has(work: Work, labels: dict[str, str], may: bool):
    beat(work, "w1", labels=labels)
    job_id = submit(work, FAST)
    assert placement.answers(placement.Present("w1", labels), "gpu=h100") == may
    assert take(work) == (job_id if may else None)


def test_a_job_that_a_worker_may_not_take_holds_up_no_other(work: Work):
    beat(work, "w1", labels={"gpu": "a100"})
    submit(work, FAST)
    plain = submit(work, ANY)
    assert take(work) == plain


def test_a_message_that_came_to_the_wrong_worker_is_passed_on_where_another_is_free(work: Work):
    beat(work, "w1")
    job_id = submit(work, FAST)
    with work.database.write() as s:
        outbox.mark_sent(s, [message.id for message in outbox.pending(s, 10)])
    assert take(work, "w1") is None
    assert unsent(work) == 0
    beat(work, "w2", labels=FAST)
    assert take(work, "w1") is None
    assert unsent(work) == 1
    assert take(work, "w2") == job_id


def test_a_gang_is_made_of_workers_that_have_the_labels(work: Work):
    for name, labels in (("w1", FAST), ("w2", ANY), ("w3", FAST)):
        beat(work, name, labels=labels)
    job_id = submit(work, FAST, num_nodes=2)

    def come(name: str) -> Any:
        with work.database.write() as s:
            return leases.claim_next(s, worker=name, lease_s=60, meeting=Meeting("10.0.0.1", 1))

    assert come("w1") == leases.Offer(job_id, 1, 2)
    assert come("w2") is None
    assert come("w3").gang.num_nodes == 2


def test_a_job_makes_way_only_on_a_worker_that_the_other_may_have(work: Work):
    beat(work, "w1")
    beat(work, "w2", labels=FAST)
    lower = [work.submit(priority=-1) for _ in range(2)]
    for job_id, worker in zip(lower, ("w1", "w2"), strict=True):
        with work.database.write() as s:
            claim = leases.claim(s, job_id, worker=worker, lease_s=60)
            assert claim is not None
            assert leases.begin_running(s, job_id, claim.fence)
    submit(work, FAST)
    made_way = work.write(preemption.arrange, kinds=KINDS, after_s=0.0)
    assert made_way.id == lower[1]
    assert work.read(workers.look).free() == 0


def running(work: Work, priority: int, *names: str) -> str:
    """A job that runs on these workers, the first of which holds it."""
    job_id = work.submit(priority=priority)
    fence = work.claim(job_id, worker=names[0])
    with work.database.write() as s:
        assert leases.begin_running(s, job_id, fence)
        if names[1:]:
            gangs.enlist(s, job_id, fence, [*names[1:]], Meeting("10.0.0.1", 1), lease_s=60)
    return job_id


def arrange(work: Work) -> str | None:
    job = work.write(preemption.arrange, kinds=KINDS, after_s=0.0)
    return job and job.id


def test_as_many_make_way_as_a_gang_needs_and_no_more(work: Work):
    for name in ("w1", "w2", "w3"):
        beat(work, name)
    gang, single = running(work, -1, "w1", "w2"), running(work, -1, "w3")
    submit(work, ANY, num_nodes=2)
    first = arrange(work)
    assert first in {gang, single}
    assert (arrange(work) is None) == (first == gang)


def test_none_makes_way_for_a_gang_that_could_not_start_all_the_same(work: Work):
    for name in ("w1", "w2"):
        beat(work, name)
    running(work, 9, "w1")
    running(work, -1, "w2")
    submit(work, ANY, num_nodes=2)
    assert arrange(work) is None


def test_jobs_that_ask_for_ever_other_memory_are_taken_all_the_same(work: Work):
    """A database's statement may nest no deeper than a thousand."""
    beat(work, "w1", memory_bytes=4096 * 2**30)
    asked = [jobs.NewJob(work.project_id, {"kind": "sft"}, "sft", 0, needed_bytes=gib << 30) for gib in range(4, 1300)]
    with work.database.write() as s:
        first = jobs.create(s, asked)[0].id
    assert take(work) == first
