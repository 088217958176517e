"""A run whose optimizer's state lies on the disk is the run where it does not, in less memory."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine import process
from engine.errors import EXIT_STOPPED
from tests import runs
from tests.invariants.test_saving import contents
from tests.invariants.test_stop import StopAfter

STEPS = 6


def made(root: Path, offload: str, **hyperparameters: str) -> Path:
    return runs.pretrain_run(root, max_steps=STEPS, offload_optimizer=offload, **hyperparameters)


def changed(root: Path, **hyperparameters: Any) -> Path:
    job = json.loads((root / "job.json").read_text())
    job["spec"]["hyperparameters"] |= hyperparameters
    (root / "job.json").write_text(json.dumps(job))
    return root


def output(root: Path) -> bytes:
    return (root / "output" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """In memory all along."""
    root = made(tmp_path_factory.mktemp("whole") / "run", "none")
    assert runs.carry_out(root) == 0
    return root


def test_it_trains_and_saves_the_same_to_the_bit(whole, tmp_path):
    root = made(tmp_path / "run", "disk")
    assert runs.carry_out(root) == 0
    assert output(root) == output(whole)
    assert runs.losses(root) == runs.losses(whole)
    assert contents(root) == contents(whole)
    (started,) = runs.events(root, "started")
    assert told(root, "offload_on_disk")["on_disk_bytes"] == 8 * started["trainable_parameters"]


@pytest.mark.parametrize(("before", "after"), [("disk", "none"), ("none", "disk"), ("disk", "disk")])
def test_a_stopped_run_goes_on_with_it_and_without_it(whole, tmp_path, before, after):
    root = made(tmp_path / "run", before)
    assert process.carry_out(root, StopAfter(root, 3)) == EXIT_STOPPED
    assert runs.carry_out(changed(root, offload_optimizer=after)) == 0
    assert output(root) == output(whole)
    assert runs.losses(root) == runs.losses(whole)


def test_with_another_optimizer_state_it_would_not_be_the_same(whole, tmp_path):
    root = made(tmp_path / "run", "disk")
    assert runs.carry_out(changed(root, adam_beta2=0.96)) == 0
    assert output(root) != output(whole)


def large(root: Path, offload: str) -> Path:
    changed(made(root, offload, precision="fp32"), max_steps=3)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["model"] = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    (root / "job.json").write_text(json.dumps(job))
    return root


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Runs that save while they go on: `none` in a process of its own, `disk`, and `endless` in which it was killed."""
    root = tmp_path_factory.mktemp("process")
    endless = changed(large(root / "endless", "disk"), max_steps=5_000)
    (first,) = runs.start_ranks(1, large(root / "none", "none"))
    (second,) = runs.start_ranks(1, large(root / "disk", "disk"), endless)
    while second.poll() is None and not ((endless / "events.jsonl").exists() and runs.losses(endless)):
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    for process_of_runs in (first, second):
        process_of_runs.communicate()
    assert [first.returncode, second.returncode] == [0, -signal.SIGKILL]
    return root


def told(root: Path, code: str) -> dict[str, Any]:
    (found,) = [event["data"] for event in runs.events(root, "log") if event["code"] == code]
    return found


def test_a_killed_run_leaves_none_of_its_files_on_the_disk(killed):
    endless = killed / "endless"
    assert told(endless, "offload_on_disk")["on_disk_bytes"] > 90 << 20
    assert sum(path.stat().st_size for path in endless.rglob("*") if "checkpoints" not in path.parts) < 1 << 20


def test_it_needs_less_memory_by_what_was_planned(killed):
    (planned, there), (planned_less, less) = (
        (told(killed / home, "memory_plan"), told(killed / home, "memory_measured")) for home in ("none", "disk")
    )
    assert there["optimizer"] == pytest.approx(planned["optimizer"], rel=0.01)
    assert less["optimizer"] == pytest.approx(planned_less["optimizer"], rel=0.01)
    saved = planned["total"] - planned_less["total"]
    assert saved > 0.9 * planned["optimizer"]
    assert there["total"] - less["total"] == pytest.approx(saved, rel=0.10)
