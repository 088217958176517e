"""Checkpoints: an export plus `state/`, there whole or not at all; going on from one is bit-identical."""

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
    """Where a run is; `cursor` tells the rows of the next step."""

    step: int = 0
    cursor: Cursor | None = None
    tokens: int = 0
    trained_tokens: int = 0
    elapsed_s: float = 0.0
    evaluated_step: int = 0
    eval_metrics: dict[str, float] = field(default_factory=dict)
    """Of evaluated_step."""
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    """Of best_step, the best of the steps that were saved."""
    best_eval_metrics: dict[str, float] = field(default_factory=dict)
    """The best of all evaluations, saved or not."""
    evals_without_gain: int = 0
    recent_losses: list[float] = field(default_factory=list)
    recent_log_norms: list[float] = field(default_factory=list)
    train_loss: float | None = None
    loss_scale: float | None = None
    """Of fp16 alone (engine.precision.LossScale)."""
    steps_at_scale: int = 0
    processes: int = 0
    """That shared the run when it was saved."""
    zero_stage: int = 0
    """Of those processes."""


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps. Tensors in this machine's memory are the run's own, which the next update changes."""

    progress: Progress
    states: Sequence[OptimizerState]
    """What this rank is to save of the optimizer's: its own, and what came from other machines."""
    weights: dict[str, Tensor]
    rng: dict[str, Any]

    @classmethod
    def of(cls, progress: Progress, states: Sequence[OptimizerState], weights: dict[str, Tensor]) -> "Snapshot":
        return cls(copy.deepcopy(progress), states, weights, _rng_state())


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def newest(root: Path) -> Path | None:
    """The newest complete checkpoint. A folder without state (a plain export) is not one."""
    complete = sorted(path for path in root.glob("step-*") if (path / STATE / _PROGRESS).is_file())
    return complete[-1] if complete else None


def begin(root: Path, step: int) -> Path:
    """The folder in which a checkpoint of this step is written; what killed processes left is removed."""
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
    """Write a checkpoint of this step beside the others and let it appear by rename.

    `when_read` is called as soon as the run may change what the snapshot shares with it. With others it was begun before,
    and appears when the part of each is there.
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
    """What another rank than the first adds to the checkpoint that this one has begun: it has its name once it is durable."""
    whole = _writing_of(root, snapshot.progress.step) / STATE / writers.name
    writing = whole.with_name(f".{whole.name}")
    shards.write(writing, snapshot.states)
    when_read()
    _fsync(writing)
    writing.rename(whole)


def _writing_of(root: Path, step: int) -> Path:
    return root / f".writing-{folder_of(root, step).name}"


def publish(writing: Path, target: Path) -> None:
    """Make the folder durable, then give it its name; what had the name is never there in part."""
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
            # By rename first: whoever is reading it finds all of it or none.
            shutil.rmtree(path.rename(root / f".removing-{path.name}"))


def read_progress(checkpoint: Path) -> Progress:
    told = json.loads((checkpoint / STATE / _PROGRESS).read_text())
    step, places = told["cursor"]
    return Progress(**told | {"cursor": Cursor(step, tuple(Place(*place) for place in places))})


def restore(checkpoint: Path, take: Callable[[Stored], None]) -> Progress:
    """Put generators back as they were and let the optimizer `take` its state; the weights were loaded before.

    Raises:
        EngineError: a file is missing or torn.
    """
    saved = Stored(checkpoint / STATE)
    take(saved)
    _set_rng_state(saved.beside["rng"])
    return read_progress(checkpoint)


def optimizer_of(checkpoint: Path) -> Stored:
    """What a run's optimizer had learnt of its gradients. Raises EngineError as `restore` does."""
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
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
