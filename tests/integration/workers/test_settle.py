"""What becomes of a job whose engine did not do what it was to do."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.puppets import Stage, finished, metrics, start, started
from tests.integration.workers.workplace import Workplace
from workers import kills, settle


def test_the_last_words_of_an_engine_that_dies_silently_are_kept(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("say", "cannot find the thing"), ("exit", 1)])
        settle.settle(stage.attempt, stage.supervise())
    (attempt,) = workplace.attempts(job_id)
    assert (attempt.failure_class, attempt.exit_code) == ("bug", 1)
    assert attempt.message is not None
    assert attempt.message.endswith("cannot find the thing")


def test_a_killed_engine_is_tried_again(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), ("die", "SIGKILL")])
        settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "queued"
    assert workplace.attempts(job_id)[0].failure_class == "worker_lost"


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 200 MiB."""
    for parent, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", parent, f"trainyard-test-{os.getpid()}")
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(200 * 2**20))
                yield group
                return
            finally:
                group.rmdir()
    pytest.skip("no control group with a limit of memory can be made here")


def test_an_engine_that_the_kernel_killed_for_want_of_memory_is_not_tried_again(
    workplace: Workplace, small_group: Path
) -> None:
    job_id = workplace.submit_tiny()
    lighter = "hyperparameters.max_length=256 (0.10 GiB)"
    plan = {"type": "log", "level": "info", "code": "memory_plan", "message": "much", "data": {"lighter": lighter}}
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("event", plan), ("grow within", str(small_group))])
        settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.failure_class, job.error_code) == ("failed", "out_of_memory", "out_of_memory")
    assert lighter in (job.error_mend or "")


def test_a_kill_for_want_of_memory_long_before_was_another_process(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom 0\noom_kill 0\n")
    monkeypatch.setattr(kills, "_counter_of", lambda _: counter)
    monkeypatch.setattr(kills, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(kills, "_LATELY_S", 0.3)
    another = threading.Timer(0.2, counter.write_text, ("oom 1\noom_kill 1\n",))
    another.start()
    assert killed(workplace, [("sleep", 2.0)]) == "worker_lost"
    assert "oom_kill 1" in counter.read_text()


def test_a_kill_for_want_of_memory_in_another_group_was_another_process(
    workplace: Workplace, small_group: Path, tmp_path: Path
) -> None:
    if kills._counter_of(os.getpid()) == kills._OF_THE_MACHINE:
        pytest.skip("the kernel counts such kills for the whole machine alone")
    (tmp_path / "script.json").write_text(json.dumps([("grow within", str(small_group))]))
    greedy = start(tmp_path)
    try:
        assert killed(workplace, [("sleep", 4.0)]) == "worker_lost"
        assert greedy.poll() == -signal.SIGKILL
    finally:
        greedy.end()


def killed(workplace: Workplace, before: list[tuple[str, Any]]) -> str | None:
    """The class of the failure of an engine that somebody kills."""
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), *before, ("die", "SIGKILL")])
        settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "queued"
    return workplace.attempts(job_id)[0].failure_class


def test_no_figure_lies_beyond_the_last_step_of_a_job(workplace: Workplace) -> None:
    """The attempt that was lost had come further than the one that `max_minutes` ended."""
    workplace.settings = workplace.settings.model_copy(update={"backoff_s": 0.0})
    job_id = workplace.submit_tiny()
    lost = [metrics(1), metrics(2), metrics(3), ("die", "SIGKILL")]
    for script in (lost, [metrics(1), metrics(2), *finished(2)]):
        with workplace.claim(job_id) as lease:
            stage = Stage(workplace, lease, script)
            settle.settle(stage.attempt, stage.supervise())
    assert workplace.job(job_id).state == "succeeded"
    assert list(workplace.losses(job_id)) == [1, 2]


@pytest.mark.parametrize("failure", ["data_error", "spec_error", "out_of_memory", "diverged"])
def test_what_would_fail_in_the_same_way_again_is_not_tried_again(workplace: Workplace, failure: str) -> None:
    job_id = workplace.submit_tiny()
    told = {"type": "failed", "failure": failure, "code": "so", "message": "It is so.", "mend": "Do not."}
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [("event", told), ("exit", 65)])
        settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.failure_class, job.error_code) == ("failed", failure, "so")
    assert (job.error_message, job.error_mend) == ("It is so.", "Do not.")


def test_a_job_that_keeps_crashing_fails_in_the_end(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings = workplace.settings.model_copy(update={"max_attempts": 2, "backoff_s": 0.0})
    for _ in range(2):
        with workplace.claim(job_id) as lease:
            stage = Stage(workplace, lease, [("exit", 1)])
            settle.settle(stage.attempt, stage.supervise())
    job = workplace.job(job_id)
    assert (job.state, job.failure_class, job.fence) == ("failed", "bug", 2)
