"""What is written while the run goes on is the run as it was, and is told once nothing can take it away."""

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from engine import checkpoint, process, saver, shards
from engine.errors import EXIT_BUG, EXIT_STOPPED
from engine.loop import Training
from engine.saver import Saver
from tests import runs
from tests.invariants.test_stop import StopAfter

STEPS = 5
PAUSE_S = 0.2
"""Longer than the passes of a step take."""


def made(root: Path) -> Path:
    """A run that trains every weight and keeps what it saves after each step."""
    spec = runs.sft_spec(max_steps=STEPS) | {"tuning": {"method": "full"}}
    return runs.sft_run(root, spec=spec | {"checkpoints": {"save_steps": 1, "save_total_limit": STEPS}})


def contents(root: Path) -> dict[str, bytes]:
    """Every checkpoint but how long it took to get there."""
    files = [path for path in (root / "checkpoints").rglob("*") if path.is_file() and path.name != "progress.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def pause_before(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> None:
    act: Any = getattr(place, name)

    def late(*given: Any) -> Any:
        time.sleep(PAUSE_S)
        return act(*given)

    monkeypatch.setattr(place, name, late)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = made(tmp_path_factory.mktemp("whole") / "run")
    assert runs.carry_out(root) == 0
    return root


def test_a_checkpoint_that_is_written_late_is_of_its_own_step(whole, tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    pause_before(monkeypatch, saver, "save_subject")
    assert runs.carry_out(root) == 0
    assert contents(root) == contents(whole)
    assert runs.losses(root) == runs.losses(whole)


def test_without_the_wait_before_an_update_it_would_be_of_a_later_one(whole, tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    pause_before(monkeypatch, saver, "save_subject")
    monkeypatch.setattr(Saver, "until_read", lambda _: None)
    assert runs.carry_out(root) == 0
    assert contents(root).keys() == contents(whole).keys()
    assert contents(root) != contents(whole)


def test_steps_go_on_while_a_checkpoint_becomes_durable(tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    pause_before(monkeypatch, checkpoint, "publish")
    assert runs.carry_out(root) == 0
    told = [(event["type"], event["step"]) for event in runs.events(root) if event["type"] in {"metrics", "checkpoint"}]
    assert told.index(("metrics", 2)) < told.index(("checkpoint", 1))
    assert [step for type_, step in told if type_ == "checkpoint"] == [*range(1, STEPS + 1)]


def test_a_stop_is_told_after_the_checkpoint_that_it_waits_for(tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    pause_before(monkeypatch, checkpoint, "publish")
    assert process.carry_out(root, StopAfter(root, 3)) == EXIT_STOPPED
    assert [(event["type"], event["step"]) for event in runs.events(root)[-2:]] == [("checkpoint", 3), ("stopped", 3)]
    assert checkpoint.newest(root / "checkpoints") == root / "checkpoints" / "step-00000003"


@pytest.mark.parametrize("step", [1, STEPS])
def test_a_disk_that_is_full_ends_the_run_and_is_named(tmp_path, monkeypatch, step):
    root = made(tmp_path / "run")
    publish = checkpoint.publish

    def full(writing: Path, target: Path) -> None:
        if target == checkpoint.folder_of(target.parent, step):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        publish(writing, target)

    monkeypatch.setattr(checkpoint, "publish", full)
    assert runs.carry_out(root) == EXIT_BUG
    assert os.strerror(errno.ENOSPC) in runs.events(root, "failed")[-1]["message"]
    assert max(runs.losses(root)) <= step + 2
    monkeypatch.undo()
    shutil.rmtree(root / "cache", ignore_errors=True)
    assert runs.carry_out(root) == 0


def test_a_disk_that_is_full_under_the_state_of_the_optimizer_is_named(tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    monkeypatch.setattr(shards, "name_of", lambda *_: "/dev/full")
    assert runs.carry_out(root) == EXIT_BUG
    assert os.strerror(errno.ENOSPC) in runs.events(root, "failed")[-1]["message"]
    assert checkpoint.newest(root / "checkpoints") is None


def test_a_run_that_diverges_keeps_the_checkpoint_that_was_being_written(tmp_path, monkeypatch):
    root = made(tmp_path / "run")
    pause_before(monkeypatch, checkpoint, "publish")

    step = Training._step

    def fail_after_two(training: Training) -> None:
        if training.progress.step == 2:
            raise ValueError("no rows")
        step(training)

    monkeypatch.setattr(Training, "_step", fail_after_two)
    assert runs.carry_out(root) == EXIT_BUG
    assert [event["step"] for event in runs.events(root, "checkpoint")] == [1, 2]
