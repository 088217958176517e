"""A run that was killed and gone on with is bit for bit the run that was not."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import runs

STEPS = 40
SAVE_STEPS = 8
KILL_AFTER = 19


def adapter_spec() -> dict[str, Any]:
    spec = runs.sft_spec(max_steps=STEPS)
    spec["checkpoints"]["save_steps"] = SAVE_STEPS
    spec["tuning"]["lora_dropout"] = 0.2
    return spec


def adapter_run(root: Path) -> Path:
    return runs.sft_run(root, spec=adapter_spec())


def quantized_run(root: Path) -> Path:
    return runs.quantized_run(root, adapter_spec())


def preference_run(root: Path) -> Path:
    spec = adapter_spec() | {"kind": "dpo", "tuning": {"method": "full"}}
    spec["hyperparameters"]["learning_rate"] = 0.001
    return runs.dpo_run(root, spec=spec)


def preference_adapter_run(root: Path) -> Path:
    return runs.dpo_run(root, spec=adapter_spec() | {"kind": "dpo"})


def preference_quantized_run(root: Path) -> Path:
    spec = adapter_spec() | {"kind": "dpo"}
    runs.dpo_run(root, spec=spec | {"tuning": spec["tuning"] | {"method": "qlora"}})
    runs.save_base(root / "model", width=64)
    return root


def model_run(root: Path) -> Path:
    runs.pretrain_run(root, max_steps=STEPS)
    job = json.loads((root / "job.json").read_text())
    job["spec"]["checkpoints"]["save_steps"] = SAVE_STEPS
    (root / "job.json").write_text(json.dumps(job))
    return root


RUNS = {
    "sft lora": adapter_run,
    "sft qlora": quantized_run,
    "dpo full": preference_run,
    "dpo lora": preference_adapter_run,
    "dpo qlora": preference_quantized_run,
    "pretrain": model_run,
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next(folder.glob("*.safetensors")))


def last_step(root: Path) -> int:
    if not (root / "events.jsonl").exists():
        return 0
    steps = [
        json.loads(line).get("step", 0) for line in (root / "events.jsonl").read_text().splitlines(keepends=True)[:-1]
    ]
    return max(steps, default=0)


def kill_midway(root: Path) -> None:
    process = runs.fork(root)
    while last_step(root) < KILL_AFTER and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was over before it could be killed"


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def killed(request, tmp_path_factory) -> tuple[Path, Path]:
    """(the uninterrupted run, a run directory whose process was killed)."""
    make = request.param
    root = tmp_path_factory.mktemp("resume")
    whole, broken = make(root / "whole"), make(root / "broken")
    assert runs.carry_out(whole) == 0
    kill_midway(broken)
    assert not (broken / "output").exists()
    return whole, broken


def resumed(broken: Path, target: Path, *, change: dict[str, Any] | None = None) -> Path:
    """Go on in a copy; `change` tampers with the newest checkpoint's progress."""
    shutil.copytree(broken, target)
    # A run may go on in another directory, to which nothing but checkpoints comes along.
    shutil.rmtree(target / "cache", ignore_errors=True)
    if change is not None:
        progress = max((target / "checkpoints").glob("step-*")) / "state" / "progress.json"
        progress.write_text(json.dumps(json.loads(progress.read_text()) | change))
    assert runs.carry_out(target) == 0
    return target


@pytest.fixture(scope="module")
def went_on(killed, tmp_path_factory) -> Path:
    return resumed(killed[1], tmp_path_factory.mktemp("resumed") / "run")


def test_a_killed_run_goes_on_to_the_same_losses_and_weights_bit_for_bit(killed, went_on):
    whole, _ = killed
    assert runs.events(went_on, "started")[-1]["start_step"] in {
        SAVE_STEPS,
        2 * SAVE_STEPS,
        3 * SAVE_STEPS,
        4 * SAVE_STEPS,
    }
    assert runs.losses(went_on) == runs.losses(whole)
    assert same_weights(went_on / "output", whole / "output")


def test_a_killed_run_goes_on_to_the_same_record_of_its_rows(killed, went_on):
    whole, _ = killed
    logs = [root / "rows.bin" for root in (whole, went_on)]
    assert logs[0].read_bytes() == logs[1].read_bytes()


def test_with_the_data_cursor_lost_the_losses_differ(killed, tmp_path):
    whole, broken = killed
    astray = resumed(broken, tmp_path / "run", change={"cursor": [0, [[0, 0, 0, 0]]]})
    assert runs.losses(astray) != runs.losses(whole)


def test_the_events_of_both_processes_are_numbered_through(went_on):
    assert [event["seq"] for event in runs.events(went_on)] == list(range(1, len(runs.events(went_on)) + 1))
