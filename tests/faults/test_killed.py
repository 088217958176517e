"""Engine and worker are killed in the middle of a job: the result is that of a run nobody disturbed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from db import orders
from db.models import Job
from tests.integration.workers.workplace import Workplace, alive, descendants, engines, wait_until
from tests.servers import Postgres, Valkey

_STEPS = 100
_SAVE_STEPS = 20
_DISTURB_AT = 30
_ORPHANS_GONE_WITHIN_S = 5.0


class Run(NamedTuple):
    """What a job came to: every figure of its training, and the bytes of its weights."""

    losses: dict[int, float | None]
    weights: str


class Ground(NamedTuple):
    """Where the faults happen: a workplace with a reaper, and what the job comes to undisturbed."""

    place: Workplace
    broker: Valkey
    undisturbed: Run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Run:
    with opened(tmp_path_factory.mktemp("undisturbed"), sqlite_template, None) as place:
        broker = Valkey()
        with place.process("workers.recover", broker.url), start_worker(place, broker):
            job_id = submit(place)
            assert place.wait(job_id).state == "succeeded", place.job(job_id).error_message
        broker.close()
        return outcome(place, job_id)


@pytest.fixture(scope="module")
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, undisturbed: Run
) -> Iterator[Ground]:
    """On SQLite, or on PostgreSQL where a test asks for that."""
    server: Postgres | None = request.getfixturevalue("postgres") if getattr(request, "param", None) else None
    with opened(tmp_path_factory.mktemp("ground"), sqlite_template, server) as place:
        broker = Valkey()
        with place.process("workers.recover", broker.url):
            yield Ground(place, broker, undisturbed)
        broker.close()


on_both = pytest.mark.parametrize(
    "ground", [pytest.param(None, id="sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


@contextmanager
def opened(home: Path, sqlite_template: Path, server: Postgres | None) -> Iterator[Workplace]:
    if server is None:
        (home / "trainyard.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{home / 'trainyard.db'}" if server is None else server.create()
    place = Workplace(home, url, heartbeat_s=0.5, lease_s=6.0, backoff_s=0.0, warm_engines=0)
    yield place
    place.close()


def start_worker(
    place: Workplace, broker: Valkey, name: str = "same"
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return place.process("workers", broker.url, worker_name=name)


def submit(place: Workplace) -> str:
    return place.submit_tiny(steps=_STEPS, save_steps=_SAVE_STEPS)


def outcome(place: Workplace, job_id: str) -> Run:
    (model,) = place.artifacts(job_id, "model")
    return Run(place.losses(job_id), place.digests(model)["model.safetensors"])


def begin(ground: Ground) -> str:
    """A job in its middle, with a checkpoint to go on from."""
    job_id = submit(ground.place)
    ground.place.wait_for_step(job_id, _DISTURB_AT)
    wait_until(lambda: bool(ground.place.artifacts(job_id, "checkpoint")), "a checkpoint is stored")
    assert ground.place.job(job_id).state == "running"
    return job_id


def assert_as_if_undisturbed(ground: Ground, job_id: str) -> Job:
    job = ground.place.wait(job_id)
    assert job.state == "succeeded", job.error_message
    _, second, *more = ground.place.attempts(job_id)
    assert second.resume_step is not None
    assert second.resume_step >= _SAVE_STEPS
    assert not more
    assert outcome(ground.place, job_id) == ground.undisturbed
    return job


def engine_of(worker: subprocess.Popen[bytes]) -> int:
    (pid,) = engines(worker.pid)
    return pid


def test_a_job_whose_engine_is_killed_goes_on_from_its_last_checkpoint(ground: Ground) -> None:
    with start_worker(ground.place, ground.broker) as worker:
        job_id = begin(ground)
        os.kill(engine_of(worker), signal.SIGKILL)
        assert_as_if_undisturbed(ground, job_id)
    first = ground.place.attempts(job_id)[0]
    assert (first.failure_class, first.exit_code) == ("worker_lost", -9)


def test_a_job_whose_worker_process_is_killed_goes_on(ground: Ground) -> None:
    with start_worker(ground.place, ground.broker) as worker:
        job_id = begin(ground)
        engine = engine_of(worker)
        (child,) = [pid for pid in descendants(worker.pid) if engine in descendants(pid)]
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not alive(engine), "the engine is gone", _ORPHANS_GONE_WITHIN_S)
        assert_as_if_undisturbed(ground, job_id)


@on_both
def test_a_job_whose_worker_is_killed_goes_on_with_the_next_worker(ground: Ground) -> None:
    with start_worker(ground.place, ground.broker) as worker:
        job_id = begin(ground)
        below = descendants(worker.pid)
        worker.kill()
        wait_until(lambda: not any(map(alive, below)), "no orphans", _ORPHANS_GONE_WITHIN_S)
    with start_worker(ground.place, ground.broker):
        assert_as_if_undisturbed(ground, job_id)
    assert ground.place.attempts(job_id)[0].failure_class == "worker_lost"


def test_a_worker_that_is_stopped_saves_its_job_and_gives_it_back(ground: Ground) -> None:
    with start_worker(ground.place, ground.broker) as worker:
        job_id = begin(ground)
        below = descendants(worker.pid)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(25) == 0
        assert time.monotonic() - begun < 25
        assert not any(map(alive, below))
    job = ground.place.job(job_id)
    assert (job.state, job.failures) == ("queued", 0)
    (first,) = ground.place.attempts(job_id)
    assert first.outcome == "stopped"
    saved = ground.place.artifacts(job_id, "checkpoint")[0]
    assert saved.step == job.step
    with start_worker(ground.place, ground.broker):
        assert_as_if_undisturbed(ground, job_id)


@on_both
def test_a_paused_job_frees_its_worker_and_goes_on_with_another(ground: Ground) -> None:
    place = ground.place
    with start_worker(place, ground.broker):
        job_id = begin(ground)
        place.order(orders.pause, job_id)
        paused = place.wait(job_id, "paused")
        assert place.artifacts(job_id, "checkpoint")[0].step == paused.step
        between = place.submit_tiny()
        assert place.wait(between).state == "succeeded"
        assert place.job(job_id).state == "paused"
    with start_worker(place, ground.broker, "another"):
        place.order(orders.resume, job_id)
        assert_as_if_undisturbed(ground, job_id)
    assert [attempt.worker for attempt in place.attempts(job_id)] == ["same", "another"]


def test_a_job_whose_engine_is_killed_as_it_pauses_goes_on_from_its_last_checkpoint(ground: Ground) -> None:
    with start_worker(ground.place, ground.broker) as worker:
        job_id = begin(ground)
        engine = engine_of(worker)
        os.kill(engine, signal.SIGSTOP)  # it can neither save nor stop
        ground.place.order(orders.pause, job_id)
        os.kill(engine, signal.SIGKILL)
        ground.place.wait(job_id, "paused", "queued")
        ground.place.order(orders.resume, job_id)
        assert_as_if_undisturbed(ground, job_id)
