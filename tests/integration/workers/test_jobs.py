"""Whole jobs: a real worker and reaper, a real broker, the real engine."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.workers.workplace import (
    Workplace,
    alive,
    at_work,
    descendants,
    engines,
    tiny_pretrain,
    wait_until,
)
from tests.servers import Postgres, Valkey
from workers.queue import connect, enqueue

_LONG = 100_000
_SEEN_LATE_S = 0.5
_ANSWERS = "".join(json.dumps({"prompt": f"cat {n % 7}?", "completion": f" dog {n % 5}."}) + "\n" for n in range(60))


class Running(NamedTuple):
    """A workplace with a worker and a reaper at work."""

    place: Workplace
    broker: Valkey
    worker_pid: int


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> Iterator[Running]:
    """On SQLite, or on PostgreSQL where a test asks for that."""
    home = tmp_path_factory.mktemp("home")
    if getattr(request, "param", None) is None:
        (home / "trainyard.db").write_bytes(sqlite_template.read_bytes())
        url = f"sqlite:///{home / 'trainyard.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create()
    broker = Valkey()
    place = Workplace(home, url, heartbeat_s=0.3, preempt_after_s=0.5)
    with ExitStack() as stack:
        worker = stack.enter_context(place.process("workers", broker.url))
        stack.enter_context(place.process("workers.recover", broker.url))
        yield Running(place, broker, worker.pid)
    place.close()
    broker.close()


@pytest.mark.parametrize(
    "running",
    [pytest.param(None, id="sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres)],
    indirect=True,
)
def test_a_job_makes_a_model_and_its_lineage(running: Running) -> None:
    place = running.place
    job_id = place.submit_tiny(suffix="tiny")
    job = place.wait(job_id)
    assert job.state == "succeeded", job.error_message
    assert sorted(place.losses(job_id)) == [1, 2, 3, 4, 5, 6]
    assert [artifact.step for artifact in place.artifacts(job_id, "checkpoint")] == [6, 3]
    (model,) = place.artifacts(job_id, "model")
    assert (model.name, model.version) == ("tiny", 1)
    assert model.lineage["files"][0]["id"] == job.spec["training_file"]
    assert "model.safetensors" in place.digests(model)
    assert (model.limits or {}).keys() == {"context_length", "vocabulary_size"}
    assert None not in (model.limits or {}).values()


def test_a_worker_logs_in_json_with_the_job_and_the_attempt(running: Running) -> None:
    job_id = running.place.submit_tiny()
    running.place.wait(job_id, "succeeded")

    def told() -> list[tuple[str, int]]:
        text = (running.place.home / "workers.log").read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]  # Celery prints a few words
        return [(line["message"], line["attempt"]) for line in lines if line.get("job_id") == job_id]

    wait_until(lambda: len(told()) == 2, "both lines")
    assert told() == [("the attempt begins", 1), ("the attempt has ended", 1)]


def test_a_message_that_comes_twice_runs_the_job_once(running: Running) -> None:
    place = running.place
    job_id = place.submit_tiny()
    with connect(running.broker.url) as connection:
        for _ in range(5):
            enqueue([(job_id, 0)], connection)
    place.wait(job_id, "succeeded")
    with connect(running.broker.url) as connection:
        enqueue([(job_id, 0)], connection)
    assert len(place.attempts(job_id)) == 1
    assert len(place.artifacts(job_id, "model")) == 1


def test_an_adapter_is_tuned_on_a_model_and_both_are_evaluated(running: Running) -> None:
    place = running.place
    first = place.submit_tiny(suffix="ground")
    place.wait(first, "succeeded")
    (model,) = place.artifacts(first, "model")
    rows = place.upload(_ANSWERS, "completion")
    tune = {"kind": "sft", "model": "ground", "training_file": rows, "tuning": {"method": "lora", "r": 2}}
    rules = {"max_steps": 4, "per_device_train_batch_size": 2, "max_length": 32}
    tuning = place.submit(tune | {"hyperparameters": rules, "checkpoints": {"save_steps": 2}}, base=model.id)
    assert place.wait(tuning).state == "succeeded", place.job(tuning).error_message
    (adapter,) = place.artifacts(tuning, "adapter")
    assert adapter.lineage["base"]["id"] == model.id
    for artifact in (model, adapter):
        scored = place.submit({"kind": "eval", "model": artifact.id, "eval_file": rows}, base=artifact.id)
        job = place.wait(scored)
        assert job.state == "succeeded", job.error_message
        assert job.result is not None
        assert job.result["metrics"]["eval_loss"] > 0


def test_a_merged_model_is_published_beside_its_adapter_and_evaluated_by_itself(running: Running) -> None:
    place = running.place
    first = place.submit_tiny(suffix="floor")
    place.wait(first, "succeeded")
    (model,) = place.artifacts(first, "model")
    rows = place.upload(_ANSWERS, "completion")
    tuning = {"method": "lora", "r": 2, "merge": "auto"}
    rules = {"max_steps": 4, "per_device_train_batch_size": 2, "max_length": 32, "precision": "fp32"}
    spec = {"kind": "sft", "model": "floor", "suffix": "house", "training_file": rows, "tuning": tuning}
    job = place.wait(place.submit(spec | {"hyperparameters": rules}, base=model.id))
    assert job.state == "succeeded", job.error_message
    (adapter,), (merged,) = place.artifacts(job.id, "adapter"), place.artifacts(job.id, "model")
    assert (adapter.name, adapter.version, merged.name, merged.version) == ("house", 1, "house-merged", 1)
    assert (adapter.base_artifact_id, merged.base_artifact_id) == (model.id, adapter.id)
    assert merged.lineage["merged_from"] == adapter.id
    assert "model.safetensors" in place.digests(merged)
    assert job.result is not None
    assert job.result["metrics"]["merged_original_loss"] == merged.metrics["eval_loss"]
    scored = place.submit({"kind": "eval", "model": merged.id, "eval_file": rows}, base=merged.id)
    assert place.wait(scored).state == "succeeded", place.job(scored).error_message


def test_rows_that_cannot_be_trained_on_fail_the_job_at_once(running: Running) -> None:
    place = running.place
    job_id = place.submit(tiny_pretrain(place.upload("\n")))
    job = place.wait(job_id)
    assert (job.state, job.failure_class, job.fence) == ("failed", "data_error", 1)
    assert job.error_message
    assert job.error_mend


def test_a_running_job_is_cancelled_and_its_engine_ends(running: Running) -> None:
    place = running.place
    job_id = place.submit_tiny(steps=_LONG, save_steps=_LONG)
    place.wait_for_step(job_id, 1)
    (engine,) = [engine for engine in engines(running.worker_pid) if at_work(engine)]
    place.cancel(job_id)
    assert place.wait(job_id, timeout_s=20).state == "cancelled"
    assert place.artifacts(job_id, "model") == []
    wait_until(lambda: not alive(engine), "the engine's end", timeout_s=5)


def test_a_queued_job_is_cancelled_before_it_starts(running: Running) -> None:
    place = running.place
    blocking, waiting = (place.submit_tiny(steps=_LONG, save_steps=_LONG) for _ in range(2))
    place.wait(blocking, "running")
    place.cancel(waiting)
    place.cancel(blocking)
    place.wait(blocking, "cancelled", timeout_s=20)
    job = place.job(waiting)
    assert (job.state, job.fence) == ("cancelled", 0)


def test_jobs_go_on_while_the_broker_is_away_and_a_new_one_runs_when_it_is_back(running: Running) -> None:
    place, broker = running.place, running.broker
    first, behind = place.submit_tiny(), place.submit_tiny()
    place.wait(first, "running", "succeeded")
    broker.stop()
    place.wait(first, "succeeded")
    place.wait(behind, "succeeded")
    new = place.submit_tiny()
    broker.start()
    assert place.wait(new).state == "succeeded"


def test_a_job_of_higher_priority_has_a_lower_one_save_and_make_way(running: Running) -> None:
    place = running.place
    low = place.submit_tiny(steps=_LONG, save_steps=_LONG)
    place.wait_for_step(low, 1)
    high = place.submit_tiny(resources={"priority": 9})
    assert place.wait(high, timeout_s=60).state == "succeeded"
    first = place.attempts(low)[0]
    (saved,) = place.artifacts(low, "checkpoint")
    assert (first.outcome, first.failure_class) == ("preempted", None)
    assert [record.type for record in place.records(low) if record.type == "preempted"] == ["preempted"]
    place.wait(low, "running")
    wait_until(lambda: (place.job(low).step or 0) > saved.step, "it goes on where it was")
    assert place.attempts(low)[1].resume_step == saved.step
    assert sorted(place.losses(low))[:2] == [1, 2]
    place.cancel(low)
    place.wait(low, "cancelled", timeout_s=20)


def test_a_trainer_is_gone_at_the_end_of_its_lease_though_its_worker_stands_still(
    tmp_path: Path, sqlite_template: Path, broker_url: str
) -> None:
    path = tmp_path / "trainyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    place = Workplace(tmp_path / "home", f"sqlite:///{path}")
    job_id = place.submit_tiny(steps=_LONG, save_steps=_LONG)
    with place.process("workers", broker_url, lease_s=3.0, heartbeat_s=0.3, warm_engines=0) as worker:
        with connect(broker_url) as connection:
            enqueue([(job_id, 0)], connection)
        place.wait_for_step(job_id, 1)
        (engine,) = engines(worker.pid)
        slot = int(Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(slot, signal.SIGSTOP)
        try:
            wait_until(lambda: not alive(engine), "the engine's end", timeout_s=4)
            assert (place.job(job_id).lease_expires_at or 0) > time.time() - _SEEN_LATE_S
        finally:
            os.kill(slot, signal.SIGCONT)
    place.close()


def test_a_worker_tells_that_it_is_there_and_is_lost_within_two_heartbeats_of_its_death(running: Running) -> None:
    place = running.place
    with place.process(
        "workers", running.broker.url, worker_name="short-lived", heartbeat_s=0.5, warm_engines=0
    ) as worker:
        wait_until(lambda: place.worker_states().get("short-lived") == "idle", "it is there", 60)
        worker.kill()
        killed_at = time.monotonic()
        wait_until(lambda: place.worker_states()["short-lived"] == "lost", "it is lost")
        assert time.monotonic() - killed_at < 2.5
    with place.process("workers", running.broker.url, worker_name="short-lived", heartbeat_s=0.5, warm_engines=0):
        wait_until(lambda: place.worker_states()["short-lived"] == "idle", "it is there again", 60)
    assert place.worker_states()["short-lived"] == "stopped"


def test_no_process_of_the_worker_has_torch_but_the_engine(running: Running) -> None:
    wait_until(lambda: bool(engines(running.worker_pid)), "a warm engine")
    own = {running.worker_pid, *descendants(running.worker_pid)} - set(engines(running.worker_pid))
    assert len(own) >= 2
    for pid in own:
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
