"""Checkpoints: an export plus `state/`, on disk as a whole or not at all. Resuming from one is bit-identical."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import shards
from engine.data.stream import Cursor, Place
from engine.dist.writers import Writers
from engine.optim import OptimizerState
from engine.shards import Stored

STATE = "state"
_PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a run is; `cursor` is the place of the next step's rows."""

    step: int = 0
    cursor: Cursor | None = None
    tokens: int = 0
    trained_tokens: int = 0
    elapsed_s: float = 0.0
    evaluated_step: int = 0
    eval_metrics: dict[str, float] = field(default_factory=dict)
    """The metrics of evaluated_step."""
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    """The metrics of best_step, the best of the steps that were saved."""
    best_eval_metrics: dict[str, float] = field(default_factory=dict)
    """The best of all evaluations, saved or not."""
    evals_without_gain: int = 0
    recent_losses: list[float] = field(default_factory=list)
    recent_log_norms: list[float] = field(default_factory=list)
    train_loss: float | None = None
    loss_scale: float | None = None
    """Used by fp16 only (engine.precision.LossScale)."""
    steps_at_scale: int = 0
    processes: int = 0
    """How many processes shared the run when it was saved."""
    zero_stage: int = 0
    """The ZeRO stage of those processes."""


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps. Tensors in this machine's memory are not copies: the next update changes them."""

    progress: Progress
    states: Sequence[OptimizerState]
    """The optimizer state that this rank saves: its own, and what came from other machines."""
    weights: dict[str, Tensor]
    rng: dict[str, Any]

    @classmethod
    def of(cls, progress: Progress, states: Sequence[OptimizerState], weights: dict[str, Tensor]) -> "Snapshot":
        return cls(copy.deepcopy(progress), states, weights, _rng_state())


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def newest(root: Path) -> Path | None:
    """Return the newest complete checkpoint. A folder without state (a plain export) is not one."""
    complete = sorted(path for path in root.glob("step-*") if (path / STATE / _PROGRESS).is_file())
    return complete[-1] if complete else None


def begin(root: Path, step: int) -> Path:
    """Make the folder in which a checkpoint of this step is written, and remove what killed processes left behind."""
    root.mkdir(exist_ok=True)
    for leftover in [*root.glob(".writing-*"), *root.glob(".removing-*")]:
        shutil.rmtree(leftover)
    writing = _writing_of(root, step)
    (writing / STATE).mkdir(parents=True)
    return writing


def save(
    root: Path,
    snapshot: Snapshot,
    export: Callable[[Path], None],
    when_read: Callable[[], None],
    writers: Writers | None = None,
) -> Path:
    """Write a checkpoint of this step beside the others; it appears by rename.

    `when_read` is called as soon as the run may change the tensors that the snapshot shares with it. With `writers`, the
    checkpoint was begun before (`begin`), and appears once the part of every writer is on disk.
    """
    step = snapshot.progress.step
    writing = begin(root, step) if writers is None else _writing_of(root, step)
    export(writing)
    name = shards.name_of(0, 1) if writers is None else writers.name
    shards.write(writing / STATE / name, snapshot.states, rng=snapshot.rng)
    when_read()
    (writing / STATE / _PROGRESS).write_text(json.dumps(asdict(snapshot.progress), indent=1))
    if writers is not None:
        writers.wait(writing / STATE)
    target = folder_of(root, step)
    publish(writing, target)
    return target


def save_part(root: Path, snapshot: Snapshot, when_read: Callable[[], None], writers: Writers) -> None:
    """Write the part of a rank other than the first, which began the checkpoint; it gets its name once it is durable."""
    whole = _writing_of(root, snapshot.progress.step) / STATE / writers.name
    writing = whole.with_name(f".{whole.name}")
    shards.write(writing, snapshot.states)
    when_read()
    _fsync(writing)
    writing.rename(whole)


def _writing_of(root: Path, step: int) -> Path:
    return root / f".writing-{folder_of(root, step).name}"


def publish(writing: Path, target: Path) -> None:
    """Make the folder durable, then rename it to `target`; a folder of that name is replaced as a whole."""
    for path in [*writing.rglob("*"), writing]:
        _fsync(path)
    replaced = target.with_name(f".removing-{target.name}")
    if replaced.exists():
        shutil.rmtree(replaced)
    if target.exists():
        target.rename(replaced)
    writing.rename(target)
    _fsync(target.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prune(root: Path, limit: int, best_step: int | None) -> None:
    """Keep the newest `limit` checkpoints and the best one."""
    best = None if best_step is None else folder_of(root, best_step)
    for path in sorted(root.glob("step-*"))[:-limit]:
        if path != best:
            # Renamed first, so that a reader finds all of it or nothing.
            shutil.rmtree(path.rename(root / f".removing-{path.name}"))


def read_progress(checkpoint: Path) -> Progress:
    fields = json.loads((checkpoint / STATE / _PROGRESS).read_text())
    step, places = fields["cursor"]
    return Progress(**fields | {"cursor": Cursor(step, tuple(Place(*place) for place in places))})


def restore(checkpoint: Path, take: Callable[[Stored], None]) -> Progress:
    """Restore the random generators and let the optimizer `take` its state; the weights were loaded before.

    Raises:
        EngineError: a file is missing or torn.
    """
    saved = Stored(checkpoint / STATE)
    take(saved)
    _set_rng_state(saved.beside["rng"])
    return read_progress(checkpoint)


def optimizer_of(checkpoint: Path) -> Stored:
    """Return the optimizer state in a checkpoint. Raises EngineError as `restore` does."""
    return Stored(checkpoint / STATE)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the old global generator
    torch.manual_seed(seed)


def _rng_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - as above
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        # Of this process's own GPU: the machine that the run is resumed on may have fewer than this one.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_initialized():
        own = torch.cuda.current_device()  # earlier checkpoints have a state for each GPU of the machine
        torch.cuda.set_rng_state(state["cuda"][own if own < len(state["cuda"]) else 0])
