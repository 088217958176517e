"""A full disk under a worker: the job waits for room, and that counts as no failure."""

import threading
from typing import Any

import pytest

from db import attempts
from db.blobs import BlobStore
from tests.integration.workers.puppets import Puppets, Stage, checkpoint, finished, started
from tests.integration.workers.workplace import Workplace, wait_until
from workers import failures, settle, tasks


@pytest.mark.parametrize("script", [[started(), *checkpoint(1), ("sleep", 30)], [started(), *finished(4)]])
def test_a_job_whose_files_cannot_be_stored_waits_and_has_not_failed(
    workplace: Workplace, script: list[tuple[str, Any]]
) -> None:
    job_id = workplace.submit_tiny()
    full = BlobStore(workplace.settings.blobs_dir, low_space_bytes=1 << 62)
    engines: Any = Puppets(script)
    slot = workplace.slot(engines, full)
    with workplace.claim(job_id) as lease:
        tasks.carry_out(slot, lease, threading.Event())
    waits(workplace, job_id, "are free on the disk")


def test_a_job_whose_engine_finds_no_space_waits_and_has_not_failed(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("say", "OSError: [Errno 28] No space left on device"), ("exit", 1)])
        settle.settle(stage.attempt, stage.supervise())
    waits(workplace, job_id, "No space left on device")


def test_a_worker_whose_disk_is_full_leaves_the_other_jobs_to_another(workplace: Workplace) -> None:
    job_ids = [workplace.submit_tiny() for _ in range(5)]
    engines: Any = Puppets([started(), *finished(4)])
    full = workplace.slot(engines, BlobStore(workplace.settings.blobs_dir, low_space_bytes=1 << 62), "full")
    stopping = threading.Event()
    worker = threading.Thread(target=tasks.run_all, args=(full, stopping))
    worker.start()
    try:
        wait_until(lambda: bool(put_off(workplace, job_ids)), "a job is put off")
        tasks.run_all(workplace.slot(engines, name="healthy"), threading.Event())
    finally:
        stopping.set()
        worker.join()
    (late,) = put_off(workplace, job_ids)
    assert {workplace.job(job_id).state for job_id in job_ids if job_id != late} == {"succeeded"}


def put_off(workplace: Workplace, job_ids: list[str]) -> list[str]:
    """The jobs for which a worker had no room."""
    outcomes = {job_id: [attempt.outcome for attempt in workplace.attempts(job_id)] for job_id in job_ids}
    return [job_id for job_id, ended in outcomes.items() if "no_space" in ended]


def test_the_worker_of_a_gang_whose_disk_is_full_is_named_and_the_leader_does_not_rest(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    failure = failures.NO_SPACE._replace(message="it is full", worker="other")
    with workplace.claim(job_id) as lease:
        settle.put_off_or_give_up(lease, failure, workplace.settings)
    assert lease.rest_s == 0
    assert workplace.attempts(job_id)[0].message == "waiting for space on the disk of worker other: it is full"


def waits(workplace: Workplace, job_id: str, reason: str) -> None:
    job = workplace.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    assert job.not_before is not None
    assert job.not_before - job.created_at > 30
    assert [attempt.outcome for attempt in workplace.attempts(job_id)] == ["no_space"]
    with workplace.database.read() as s:
        told = attempts.last_words(s, job)
    assert told is not None
    assert "waiting for space" in told
    assert reason in told
