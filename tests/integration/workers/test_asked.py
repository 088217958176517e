"""A worker that is told to stop, or a job to end, while files are on their way and no engine is there to be asked."""

import threading
from typing import Any

from tests.integration.workers.puppets import Puppets, SlowBlobs, finished, started
from tests.integration.workers.workplace import Workplace
from workers import tasks


def test_a_worker_that_is_stopped_while_it_lays_out_a_job_gives_it_back_at_the_next_file(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    engines: Any = Puppets([started(), *finished(4)])
    slot = workplace.slot(engines)
    stopping = threading.Event()
    stopping.set()
    with workplace.claim(job_id) as lease:
        tasks.carry_out(slot, lease, stopping)
    job = workplace.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    assert [attempt.outcome for attempt in workplace.attempts(job_id)] == ["stopped"]
    assert not (workplace.settings.run_dir(job_id, 1) / "data").exists(), "no file was laid out"


def test_a_job_that_is_cancelled_while_its_results_are_stored_ends_at_the_next_file(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    engines: Any = Puppets([started(), *finished(4)])
    slow = SlowBlobs(workplace.settings.blobs_dir, low_space_bytes=0)
    slot = workplace.slot(engines, slow)
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:

        def meanwhile() -> None:
            workplace.cancel(job_id)
            assert lease.cancel_requested.wait(10)

        slow.meanwhile = meanwhile
        tasks.carry_out(slot, lease, threading.Event())
    assert slow.asked == 1, "the second file was not stored"
    assert workplace.job(job_id).state == "cancelled"
    assert workplace.artifacts(job_id, "model") == []
