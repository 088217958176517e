"""A process that is killed while it saves, or at any other moment, costs time and nothing else."""

import json
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.__main__ import main
from tests import runs

STEPS = 12
SOME_WAY = 4
KILLS = int(os.environ.get("TRAINYARD_KILLS", "3"))
"""Random instants at which the run is killed."""
TIMED = {
    *("step_s", "forward_s", "backward_s", "optimizer_s", "data_wait_s", "eta_s"),
    *("tokens_per_s", "trained_tokens_per_s", "mfu", "memory_bytes"),
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


def spec() -> dict[str, object]:
    """A save of every step, of enough weights to take a while; what is random in it depends on what came before."""
    made = runs.sft_spec(max_steps=STEPS)
    return made | {
        "checkpoints": {"save_steps": 1, "save_total_limit": 2},
        "tuning": {"method": "lora", "r": 64, "lora_dropout": 0.2},
    }


def begin(root: Path) -> BaseProcess:
    """An engine process, forked from one that has only loaded the libraries."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "engine.process"])
    process = context.Process(target=main, args=([str(root)],))
    process.start()
    return process


def outcome(root: Path) -> Outcome:
    figures = {
        (event["step"], event["split"]): {k: v for k, v in event["values"].items() if k not in TIMED}
        for event in runs.events(root, "metrics")
    }
    weights = (root / "output" / "adapter_model.safetensors").read_bytes()
    return Outcome(weights, figures, runs.events(root, "finished")[-1]["metrics"])


def kill_inside_a_save(root: Path, moment: Callable[[Path], bool]) -> None:
    """A kill that comes too late leaves a run to go on with: the next save is tried."""
    while not moment(root / "checkpoints"):
        process = begin(root)
        while process.is_alive() and not moment(root / "checkpoints"):
            time.sleep(0.0005)
        process.kill()
        process.join()
        assert not (root / "output").exists(), "no kill fell inside a save"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    home = tmp_path_factory.mktemp("kills")
    made = runs.sft_run(home / "made", spec=spec())
    runs.save_base(made / "model", width=256)
    whole = shutil.copytree(made, home / "whole")
    begin(whole).join()
    times = [event["time"] for event in runs.events(whole)]
    return Undisturbed(made, times[-1] - times[0], outcome(whole))


@pytest.mark.parametrize("moment", [saving_begins, optimizer_is_written, saving_ends])
def test_a_run_killed_inside_a_save_goes_on_to_the_same(undisturbed: Undisturbed, tmp_path: Path, moment):
    root = shutil.copytree(undisturbed.made, tmp_path / "run")
    kill_inside_a_save(root, moment)
    begin(root).join()
    assert outcome(root) == undisturbed.outcome


def test_a_torn_save_under_the_name_of_a_whole_one_would_be_noticed(undisturbed: Undisturbed, tmp_path: Path):
    root = shutil.copytree(undisturbed.made, tmp_path / "run")
    kill_inside_a_save(root, optimizer_is_written)
    (torn,) = saving(root / "checkpoints")
    (torn / "state" / "progress.json").write_text(json.dumps({"step": step_of(torn)}))
    torn.rename(torn.with_name(torn.name.removeprefix(".writing-")))
    begin(root).join()
    assert not (root / "output").exists() or outcome(root) != undisturbed.outcome


def test_a_run_killed_at_random_instants_comes_to_the_same(undisturbed: Undisturbed, tmp_path: Path):
    rng = random.Random(KILLS)
    killed, attempt = 0, 0
    while killed < KILLS:
        attempt += 1
        root = shutil.copytree(undisturbed.made, tmp_path / f"run-{attempt}")
        process = begin(root)
        while killed < KILLS and process.is_alive():
            process.join(rng.uniform(0, undisturbed.seconds))
            if process.is_alive():
                process.kill()
                process.join()
                killed += 1
                process = begin(root)
        process.join()
        assert outcome(root) == undisturbed.outcome
