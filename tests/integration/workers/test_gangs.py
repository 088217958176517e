"""Whole jobs on two workers at once: what each does, and what is told when one of them goes away."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from db.state import JobState
from tests.integration.workers.workplace import Workplace, at_work, descendants, engines, tiny_pretrain, wait_until
from tests.servers import Valkey

pytestmark = pytest.mark.timeout(600)
NAMES = ("a", "b")
LONG = 100_000
WITHIN_S = 180.0
"""Engines of both workers begin, on a machine that others use too."""
TWO = {"device": "cpu", "num_nodes": 2}


class Crowd(NamedTuple):
    """A workplace with two workers, each by the number of its process, and a reaper."""

    place: Workplace
    workers: dict[str, int]

    def submit(self, **changes: object) -> str:
        spec = tiny_pretrain(self.place.upload(), **{"resources": TWO, **changes})
        return self.place.submit(spec | {"hyperparameters": spec["hyperparameters"] | {"precision": "fp32"}})

    def follower(self, job_id: str) -> int:
        """The worker that has a part in the job but does not hold it."""
        (name,) = {*NAMES} - {self.place.job(job_id).worker}
        return self.workers[name]

    def await_ranks(self, job_id: str) -> None:
        """Until each worker has its part of the run at work."""
        for pid in self.workers.values():
            wait_until(
                lambda pid=pid: any(at_work(engine) for engine in engines(pid)), f"an engine of {pid} at work", WITHIN_S
            )
        self.place.wait_for_step(job_id, 2, WITHIN_S)

    def await_free(self) -> None:
        wait_until(lambda: {*self.place.worker_states().values()} == {"idle"}, "both idle", WITHIN_S)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Crowd]:
    home = tmp_path_factory.mktemp("home")
    (home / "trainyard.db").write_bytes(sqlite_template.read_bytes())
    broker = Valkey()
    place = Workplace(home, f"sqlite:///{home / 'trainyard.db'}", heartbeat_s=0.3, backoff_s=0.0, warm_engines=0)
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(place.process("workers", broker.url, worker_name=name)).pid for name in NAMES
        }
        stack.enter_context(place.process("workers.recover", broker.url))
        wait_until(lambda: len(place.worker_states()) == len(NAMES), "both there")
        yield Crowd(place, workers)
    place.close()
    broker.close()


def test_two_workers_make_the_model_that_one_makes(crowd: Crowd) -> None:
    place, both, one = crowd.place, crowd.submit(), crowd.submit(resources={"device": "cpu"})
    for job_id in (both, one):
        assert place.wait(job_id, timeout_s=WITHIN_S).state == JobState.SUCCEEDED, place.job(job_id).error_message
    assert place.losses(both) == pytest.approx(place.losses(one), rel=1e-6)
    (told,) = place.records(both, "gang")
    assert sorted((told.data or {})["workers"]) == [*NAMES]
    assert len(place.artifacts(both, "model")) == 1


def test_a_process_that_is_killed_ends_the_attempt_and_is_named_with_its_worker(crowd: Crowd) -> None:
    place, job_id = crowd.place, crowd.submit(steps=LONG, save_steps=5)
    crowd.await_ranks(job_id)
    place.wait_for_step(job_id, 6, WITHIN_S)
    name = next(name for name, pid in crowd.workers.items() if pid == crowd.follower(job_id))
    launcher = engines(crowd.follower(job_id))[0]
    os.kill(descendants(launcher)[-1], signal.SIGKILL)
    wait_until(lambda: place.job(job_id).fence == 2, "a second attempt", WITHIN_S)
    first = place.attempts(job_id)[0]
    assert first.outcome == "retried"
    assert f"On worker {name}: rank 1 of 2 was killed (SIGKILL)" in (first.message or "")
    place.wait_for_step(job_id, 8, WITHIN_S)
    place.cancel(job_id)
    assert place.wait(job_id).state == JobState.CANCELLED
    crowd.await_free()


def test_a_worker_that_is_to_stop_has_all_of_them_save_and_stop(crowd: Crowd) -> None:
    place, job_id = crowd.place, crowd.submit(steps=LONG, save_steps=LONG)
    crowd.await_ranks(job_id)
    slot = next(iter(descendants(crowd.follower(job_id))))
    os.kill(slot, signal.SIGTERM)
    wait_until(lambda: place.attempts(job_id)[0].outcome is not None, "the end of the first attempt", WITHIN_S)
    assert place.attempts(job_id)[0].outcome == "stopped"
    assert place.artifacts(job_id, "checkpoint")
    place.cancel(job_id)
    assert place.wait(job_id).state == JobState.CANCELLED
    crowd.await_free()


def test_a_job_goes_on_with_the_workers_that_are_left_where_it_says_so(crowd: Crowd) -> None:
    """The last of these tests: a worker is gone after it."""
    place = crowd.place
    job_id = crowd.submit(steps=300, save_steps=20, resources=TWO | {"min_nodes": 1})
    crowd.await_ranks(job_id)
    place.wait_for_step(job_id, 41, WITHIN_S)
    os.kill(crowd.follower(job_id), signal.SIGKILL)
    alone = crowd.submit(steps=300, save_steps=20, resources={"device": "cpu"})
    for job in (job_id, alone):
        assert place.wait(job, timeout_s=WITHIN_S).state == JobState.SUCCEEDED, place.job(job).error_message
    assert place.losses(job_id) == pytest.approx(place.losses(alone), rel=1e-6)
    assert {record.attempt for record in place.records(job_id, "gang")} == {1}
    assert len(place.attempts(job_id)) == 2
