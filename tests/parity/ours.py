"""Our side: a run directory, carried out by the engine's own loop in this process."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from engine.loop import Training
from tests import runs
from tests.parity.trajectory import Trajectory

STEPS = 20
MAX_LENGTH = 128
HYPERPARAMETERS: dict[str, Any] = {
    "max_steps": STEPS,
    "max_length": MAX_LENGTH,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0,
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
}


LEARNING_RATE = {"sft": 1e-3, "dpo": 1e-4}
"""Higher for pairs than TRL's own, lower than for answers: the losses move, and none gets to 0, where nothing relates."""


class Run(NamedTuple):
    """What came out, and the rows (from 0) of each micro-batch of each step."""

    trajectory: Trajectory
    order: list[list[list[int]]]


def train(root: Path, rows: list[dict[str, Any]], base: Path, *, adapter: Path | None = None, **spec: Any) -> Run:
    """Train on the rows from the base (and the adapter); `spec` goes over the spec of a job of kind sft."""
    kind = spec.pop("kind", "sft")
    hyperparameters = HYPERPARAMETERS | {"learning_rate": LEARNING_RATE[kind]} | spec.pop("hyperparameters", {})
    job = {
        "kind": kind,
        "model": "tiny/1",
        "training_file": "file-1",
        "validation_file": None,
        "hyperparameters": hyperparameters,
        "checkpoints": {"save_steps": STEPS},
        **spec,
    }
    runs.write_job(root, job)
    runs.write_rows(root / "data" / "train.jsonl", rows)
    (root / "model").symlink_to(base)
    if adapter is not None:
        (root / "adapter").symlink_to(adapter)
    with runs.opened(root) as session:
        training = Training(session, session.spec)
        start = training.stream.cursor
        order = [[_rows_of(batch.lines) for batch in training.stream.next_step()] for _ in range(STEPS)]
        training.stream.cursor = start
        training.carry_out()
    return Run(_trajectory(root), order)


def _rows_of(lines: tuple[int, ...]) -> list[int]:
    """The rows behind the documents of a batch: a pair's two documents are one row."""
    return [line - 1 for line in dict.fromkeys(lines)]


def _trajectory(root: Path) -> Trajectory:
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    steps = [e["values"] for e in events if e["type"] == "metrics" and e["split"] == "train"]
    return Trajectory([step["loss"] for step in steps], [step["grad_norm"] for step in steps])
