"""A full disk under a worker: the job waits for room, and that counts as no failure."""

import threading
from typing import Any

import pytest

from db import attempts
from db.blobs import BlobStore
from tests.integration.workers.puppets import Puppets, Stage, checkpoint, finished, started
from tests.integration.workers.workplace import Workplace
from workers import settle, tasks
from workers.celery_signals import Slot


@pytest.mark.parametrize("script", [[started(), *checkpoint(1), ("sleep", 30)], [started(), *finished(4)]])
def test_a_job_whose_files_cannot_be_stored_waits_and_has_not_failed(
    workplace: Workplace, script: list[tuple[str, Any]]
) -> None:
    job_id = workplace.submit_tiny()
    full = BlobStore(workplace.settings.blobs_dir, low_space_bytes=1 << 62)
    engines: Any = Puppets(script)
    slot = Slot("tester", workplace.settings, workplace.database, full, engines)
    with workplace.claim(job_id) as lease:
        tasks.carry_out(slot, lease, threading.Event())
    waits(workplace, job_id, "are free on the disk")


def test_a_job_whose_engine_finds_no_space_waits_and_has_not_failed(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("say", "OSError: [Errno 28] No space left on device"), ("exit", 1)])
        settle.settle(stage.attempt, stage.supervise())
    waits(workplace, job_id, "No space left on device")


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
