"""A process that is killed while it saves, or at any other moment, costs time and nothing else."""

import json
import math
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine import checkpoint
from engine.__main__ import main
from tests import runs
from tests.timed_metrics import TIMED

STEPS = 12
SOME_WAY = 4
KILLS = int(os.environ.get("TRAINYARD_KILLS", "3"))
"""Random instants at which runs are killed, shared among the tunings."""
ENOUGH_S = 300.0
PAUSE_S = 0.2
ANOTHER_STEP_S = 20.0
TUNINGS: dict[str, dict[str, object]] = {
    "full": {"method": "full"},
    "dora": {"method": "lora", "r": 64, "lora_dropout": 0.2, "use_dora": True},
    "qlora": {"method": "qlora", "r": 64, "lora_dropout": 0.2},
}


class Outcome(NamedTuple):
    """Bytes of the weights, every figure of every step, and the result."""

    weights: bytes
    figures: dict[tuple[int, str], dict[str, float]]
    result: dict[str, float]


class Undisturbed(NamedTuple):
    """What to run, how long it takes and what it comes to."""

    made: Path
    seconds: float
    outcome: Outcome


def saving(checkpoints: Path) -> list[Path]:
    """The folder that is being written, once the run has come some way."""
    return [path for path in checkpoints.glob(".writing-*") if step_of(path) > SOME_WAY]


def step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def saving_begins(checkpoints: Path) -> bool:
    return bool(saving(checkpoints))


def optimizer_is_written(checkpoints: Path) -> bool:
    return any((folder / "state" / "trainer.pt").exists() for folder in saving(checkpoints))


def saving_ends(checkpoints: Path) -> bool:
    """The folder has its name; the event that tells of it is yet to be written."""
    newest = max(map(step_of, checkpoints.glob("step-*")), default=0)
    return (
        newest > SOME_WAY and f"checkpoints/step-{newest:08d}" not in (checkpoints.parent / "events.jsonl").read_text()
    )


def last_step_told(checkpoints: Path) -> int:
    events = checkpoints.parent / "events.jsonl"
    whole = events.read_text().rpartition("\n")[0] if events.exists() else ""
    told = map(json.loads, whole.splitlines())
    return max((event["step"] for event in told if event["type"] == "metrics"), default=0)


def is_yet_to_be_written(checkpoints: Path) -> bool:
    """The run has come so far, and is at its next step or waits to change what it is saving."""
    newest = max(map(step_of, checkpoints.glob("step-*")), default=0)
    return last_step_told(checkpoints) > max(SOME_WAY, newest) and not any(checkpoints.glob(".writing-*"))


def another_step_is_done(checkpoints: Path) -> bool:
    return any(step_of(folder) < last_step_told(checkpoints) for folder in saving(checkpoints))


def slow_to_begin(arguments: list[str]) -> int:
    """An engine whose saves are not begun at once."""
    save = checkpoint.save

    def late(*given: Any) -> Path:
        time.sleep(PAUSE_S)
        return save(*given)

    checkpoint.save = late
    return main(arguments)


def slow_to_publish(arguments: list[str]) -> int:
    """An engine whose saves are not done before another step is."""
    publish = checkpoint.publish

    def late(writing: Path, target: Path) -> None:
        end = time.monotonic() + ANOTHER_STEP_S
        while last_step_told(target.parent) <= step_of(target) < STEPS and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(PAUSE_S)
        publish(writing, target)

    checkpoint.publish = late
    return main(arguments)


def spec(tuning: str) -> dict[str, object]:
    """A save of every step, of enough weights to take a while; what is random in it depends on what came before."""
    made = runs.sft_spec(max_steps=STEPS, learning_rate=0.001)
    return made | {"checkpoints": {"save_steps": 1, "save_total_limit": 2}, "tuning": TUNINGS[tuning]}


def outcome(root: Path) -> Outcome:
    figures = {
        (event["step"], event["split"]): {k: v for k, v in event["values"].items() if k not in TIMED}
        for event in runs.events(root, "metrics")
    }
    (weights,) = (root / "output").glob("*.safetensors")
    return Outcome(weights.read_bytes(), figures, runs.events(root, "finished")[-1]["metrics"])


def kill_inside_a_save(root: Path, moment: Callable[[Path], bool], *slow: Callable[[list[str]], int]) -> None:
    """A kill that comes too late leaves a run to go on with: the next save is tried."""
    while not moment(root / "checkpoints"):
        process = runs.fork(root, *slow)
        while process.is_alive() and not moment(root / "checkpoints"):
            time.sleep(0.0005)
        process.kill()
        process.join()
        assert not (root / "output").exists(), "no kill fell inside a save"


def told_bytes(root: Path) -> int:
    events = root / "events.jsonl"
    return events.stat().st_size if events.exists() else 0


def is_killed(root: Path, delay_s: float) -> bool:
    """A new process, killed so long after its first word; False when it was done by then."""
    before = told_bytes(root)
    process = runs.start(str(root))
    while told_bytes(root) == before and process.poll() is None:
        time.sleep(0.002)
    try:
        _, log = process.communicate(timeout=delay_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, log
    return False


def carry_out(home: Path, tuning: str) -> Undisturbed:
    made = runs.sft_run(home / "made", spec=spec(tuning))
    runs.save_base(made / "model", width=256)
    whole = shutil.copytree(made, home / "whole")
    runs.fork(whole).join()
    times = [event["time"] for event in runs.events(whole)]
    return Undisturbed(made, times[-1] - times[0], outcome(whole))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return carry_out(tmp_path_factory.mktemp("kills"), "dora")


@pytest.mark.parametrize("moment", [saving_begins, optimizer_is_written, saving_ends])
def test_a_run_killed_inside_a_save_goes_on_to_the_same(undisturbed: Undisturbed, tmp_path: Path, moment):
    root = shutil.copytree(undisturbed.made, tmp_path / "run")
    kill_inside_a_save(root, moment)
    runs.fork(root).join()
    assert outcome(root) == undisturbed.outcome


@pytest.mark.parametrize(
    ("moment", "slow"), [(is_yet_to_be_written, slow_to_begin), (another_step_is_done, slow_to_publish)]
)
def test_a_run_killed_while_a_slow_save_is_made_beside_it_goes_on_to_the_same(
    undisturbed: Undisturbed, tmp_path: Path, moment, slow
):
    root = shutil.copytree(undisturbed.made, tmp_path / "run")
    kill_inside_a_save(root, moment, slow)
    runs.fork(root).join()
    assert outcome(root) == undisturbed.outcome


def test_a_torn_save_under_the_name_of_a_whole_one_would_be_noticed(undisturbed: Undisturbed, tmp_path: Path):
    root = shutil.copytree(undisturbed.made, tmp_path / "run")
    kill_inside_a_save(root, optimizer_is_written)
    (torn,) = saving(root / "checkpoints")
    (torn / "state" / "progress.json").write_text(json.dumps({"step": step_of(torn)}))
    torn.rename(torn.with_name(torn.name.removeprefix(".writing-")))
    runs.fork(root).join()
    assert not (root / "output").exists() or outcome(root) != undisturbed.outcome


@pytest.mark.parametrize("tuning", TUNINGS)
def test_a_run_killed_at_random_instants_comes_to_the_same_in_new_processes(tuning: str, tmp_path: Path):
    rng = random.Random(KILLS)
    undisturbed = carry_out(tmp_path, tuning)
    due = math.ceil(KILLS / len(TUNINGS))
    while due:
        root = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copytree(undisturbed.made, root, dirs_exist_ok=True)
        while is_killed(root, rng.uniform(0, undisturbed.seconds) if due else ENOUGH_S):
            due -= 1
        assert outcome(root) == undisturbed.outcome
