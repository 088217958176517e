"""A worker's part in a job that another one holds, with a puppet as its engine."""

import threading
from typing import Any

from db import gangs, leases, workers
from engine.errors import FailureClass
from tests.integration.workers.puppets import Puppets, started
from tests.integration.workers.workplace import Workplace, tiny_pretrain, wait_until
from workers import failures, gang, settle
from workers.gang import Leading, Part


def formed(workplace: Workplace) -> tuple[str, Leading, Part]:
    """A job that two workers carry out together, and what each of them holds."""
    with workplace.database.write() as s:
        for name in ("a", "b"):
            workers.beat(s, workers.Advert(name, "here", 1, "cpu", 1 << 40, 3.0, 1.0))
    spec = tiny_pretrain(workplace.upload(), resources={"device": "cpu", "num_nodes": 2})
    job_id = workplace.submit(spec)
    taken: list[Any] = [gang.take(workplace.database, "a", workplace.settings)]
    assert isinstance(taken[0], leases.Offer)
    taken = [gang.take(workplace.database, name, workplace.settings, waits=True) for name in ("b", "a")]
    return job_id, *taken


def test_a_stopped_member_whose_engine_had_to_be_killed_counts_as_no_failure(workplace: Workplace) -> None:
    workplace.settings = workplace.settings.model_copy(update={"stop_grace_s": 0.2})
    job_id, leader, part = formed(workplace)
    engines: Any = Puppets([("ignore", "SIGTERM"), started(), ("sleep", 60)])
    stopping = threading.Event()
    run_dir = workplace.settings.run_dir(job_id, part.fence, part.place.node_rank)
    worker = threading.Thread(target=gang.take_part, args=(workplace.slot(engines, name="a"), part, stopping))
    worker.start()
    wait_until((run_dir / "events.jsonl").exists, "the engine ignores the signal")
    stopping.set()
    worker.join()
    with workplace.database.read() as s:
        fault = gangs.fault(s, job_id, part.fence)
    assert fault is not None
    assert fault.failure is not None
    assert "worker" not in fault.failure, "a leader of an older release knows no such field"
    leader.fault = fault
    killed = failures.Failure(FailureClass.WORKER_LOST, failures.ENGINE_KILLED, "", "")
    settle.put_off_or_give_up(leader, leader.blame(killed), workplace.settings)
    job = workplace.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    (attempt,) = workplace.attempts(job_id)
    assert attempt.outcome == "stopped"
    assert "On worker a: It was stopped, and its engine killed" in (attempt.message or "")
