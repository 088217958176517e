"""What becomes of a job whose engine did not do what it was to do."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from db import budgets
from db.models import File
from tests.integration.workers.puppets import Stage, finished, metrics, start, started
from tests.integration.workers.workplace import Workplace, tiny_pretrain, wait_until
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


def test_the_files_that_a_job_leaves_count_for_the_key_that_asked_for_it(workplace: Workplace) -> None:
    job_id = workplace.submit(tiny_pretrain(workplace.upload()), key_id="key-1")
    exported = {"type": "exported", "step": 2, "path": "output", "layout": "adapter", "metrics": {}}
    told = {"type": "finished", "step": 2, "metrics": {"eval_rows": 1}, "items": "items.jsonl"}
    files = ("files", {"output/adapter_config.json": "{}", "items.jsonl": "{}\n"})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [files, ("event", exported), ("event", told), ("exit", 0)])
        settle.settle(stage.attempt, stage.supervise())
    with workplace.database.read() as s:
        left = [s.get_one(File, file_id) for file_id in (workplace.job(job_id).result or {})["files"]]
        used = budgets.use(s, workplace.project_id, "key-1").storage_bytes
    (adapter,) = workplace.artifacts(job_id, "adapter")
    assert sorted(file.format for file in left) == ["archive", "items"]
    assert used == adapter.size_bytes + sum(file.size_bytes for file in left)


_GROUP_BYTES = 200 * 2**20


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 200 MiB."""
    group = make_group()
    if group is None:
        pytest.skip("no control group with a limit of memory can be made here")
    yield group
    group.rmdir()


def make_group() -> Path | None:
    """Of the memory controller (v1), else of the only hierarchy (v2); with no swap beside it, as far as that is counted."""
    ways = (
        ("memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), str(_GROUP_BYTES)),
        ("", ("memory.max", "memory.swap.max"), "0"),
    )
    for parent, (limit, of_swap), swap in ways:
        group = Path("/sys/fs/cgroup", parent, f"trainyard-test-{os.getpid()}")
        with suppress(OSError):
            group.mkdir()
            if (group / limit).exists():
                (group / limit).write_text(str(_GROUP_BYTES))
                if (group / of_swap).exists():
                    (group / of_swap).write_text(swap)
                return group
        with suppress(OSError):
            group.rmdir()
    return None


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
    another = ("files", {str(counter): "oom 1\noom_kill 1\n"})
    assert killed(workplace, [("sleep", 0.5), another, ("sleep", 1.5)]) == "worker_lost"
    assert killed_lately(workplace, counter) == "out_of_memory"


def killed_lately(workplace: Workplace, counter: Path) -> str | None:
    """The same where the kill comes just before the end."""
    job_id = workplace.submit_tiny()
    another = ("files", {str(counter): "oom 2\noom_kill 2\n"})
    with workplace.claim(job_id) as lease:
        stage = Stage(workplace, lease, [started(), ("sleep", 0.5), another, ("die", "SIGKILL")])
        settle.settle(stage.attempt, stage.supervise())
    return workplace.attempts(job_id)[0].failure_class


def test_a_kill_for_want_of_memory_in_another_group_was_another_process(
    workplace: Workplace, small_group: Path, tmp_path: Path
) -> None:
    if kills._counter_of(os.getpid()) == kills._OF_THE_MACHINE:
        pytest.skip("the kernel counts such kills for the whole machine alone")
    (tmp_path / "script.json").write_text(json.dumps([("grow within", str(small_group))]))
    greedy = start(tmp_path)
    try:
        wait_until(lambda: greedy.poll() is not None, "the other one killed", 60.0)
        assert greedy.poll() == -signal.SIGKILL
        assert killed(workplace, []) == "worker_lost"
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
