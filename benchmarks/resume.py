"""What checkpoints cost at the default interval, and how long it takes to go on from one against starting afresh.

A 28M Llama is tuned on GSM8K's rows, in full and with LoRA. The cost is the time from the last figures of a step to
the checkpoint being told, summed over the run, as a share of the run. Then the same run is killed after its
fifth checkpoint and begun again: the time from the start of the process to the first figures of a step, both ways.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from material import LORA, conversations, save_base
from report import emit

_ROOT = Path(__file__).resolve().parent.parent
_GOAL = 0.03
_KILL_AFTER = 5
"""Checkpoints of the ten that a run saves by default."""
_TUNINGS: dict[str, dict[str, Any]] = {"lora": {"method": "lora", **LORA}, "full": {"method": "full"}}


class Measured(NamedTuple):
    """Seconds of a run: training as a whole, saving, and from process to first step, afresh and gone on with."""

    training_s: float
    saving_s: float
    start_s: float
    resume_s: float

    @property
    def share(self) -> float:
        return self.saving_s / self.training_s


def lay_out(folder: Path, base: Path, tuning: dict[str, Any], steps: int) -> Path:
    spec = {
        "kind": "sft",
        "model": "base/1",
        "training_file": "file-1",
        "validation_file": None,
        "tuning": tuning,
        "hyperparameters": {"max_steps": steps, "per_device_train_batch_size": 4, "max_length": 256},
    }
    shutil.copytree(base, folder / "model")
    (folder / "job.json").write_text(json.dumps({"job_id": "job-1", "attempt": 1, "spec": spec}))
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in conversations(1000)))
    return folder


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def of(told: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in told if event["type"] == kind]


def engine(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "engine", str(folder)], cwd=_ROOT)


def measure(folder: Path) -> Measured:
    """Run, kill at half, go on to the end."""
    begun = time.time()
    process = engine(folder)
    while len(of(events(folder), "checkpoint")) < _KILL_AFTER:
        assert process.poll() is None, f"the run ended early: see {folder}"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = events(folder)
    again = time.time()
    assert engine(folder).wait() == 0
    second = events(folder)[len(first) :]
    runs = [(begun, first), (again, second)]
    spans = [of(told, "metrics")[-1]["time"] - of(told, "started")[0]["time"] for _, told in runs]
    first_steps = [of(told, "metrics")[0]["time"] - start for start, told in runs]
    return Measured(sum(spans), sum(saving_s(told) for _, told in runs), *first_steps)


def saving_s(told: list[dict[str, Any]]) -> float:
    """From the event before each checkpoint to the event that tells of it."""
    pairs = pairwise(told)
    return sum(saved["time"] - before["time"] for before, saved in pairs if saved["type"] == "checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as place:
        base = save_base(Path(place) / "base")
        measured = {}
        for name, tuning in _TUNINGS.items():
            folder = Path(place) / name
            folder.mkdir()
            measured[name] = one = measure(lay_out(folder, base, tuning, steps))
            print(
                f"{name}: ten checkpoints took {one.saving_s:.1f} s of {one.training_s:.0f} s, {one.share:.1%}; "
                f"to the first step {one.start_s:.1f} s afresh, {one.resume_s:.1f} s gone on with"
            )
    worst = max(one.share for one in measured.values())
    emit({
        "name": "resume",
        "ours": {name: one._asdict() for name, one in measured.items()},
        "peer": None,
        "ratio": worst,
        "goal": f"at most {_GOAL:.0%} of the run is spent on checkpoints",
        "holds": worst <= _GOAL,
    })  # fmt: skip


if __name__ == "__main__":
    main()
