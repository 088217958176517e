"""The ranks that write a checkpoint: those that share the first one's disk, each a file of its own."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import shards
from engine.dist.ranks import Ranks
from engine.errors import TouchLost
from engine.offload import HOME
from engine.optim import OptimizerState
from engine.shards import Piece

_LOOK_EVERY_S = 0.005


@dataclass(frozen=True)
class Writers:
    """The writers of one checkpoint: this process's number among them is `rank`, and `pids` are their process ids."""

    rank: int
    pids: tuple[int, ...]
    timeout_s: float

    @classmethod
    def met(cls, ranks: Ranks, timeout_s: float) -> "Writers | None":
        """Return the writers once all ranks are ready to write, or None on a rank that does not write.

        Each must call this.
        """
        pids = ranks.gather(os.getpid())[: ranks.here_count]
        return cls(ranks.rank, tuple(pids), timeout_s) if ranks.rank < ranks.here_count else None

    @property
    def name(self) -> str:
        """The name of this writer's file."""
        return shards.name_of(self.rank, len(self.pids))

    def wait(self, folder: Path) -> None:
        """Wait until the files of the others are in `folder`: a file gets its name once it is durable.

        This runs in a thread beside the training steps, so ranks do not communicate here.

        Raises:
            TouchLost: a writer has ended before its file was there, or takes longer than `timeout_s`.
        """
        until = time.monotonic() + self.timeout_s
        for rank, pid in enumerate(self.pids):
            path = folder / shards.name_of(rank, len(self.pids))
            while True:
                ended = _has_ended(pid)  # read first: it may name its file and end at this moment
                if path.exists():
                    break
                if ended:
                    raise TouchLost(f"rank {rank} ended before its part of the checkpoint was written")
                if time.monotonic() > until:
                    message = f"rank {rank} has not written its part of the checkpoint after {self.timeout_s:g} s"
                    raise TouchLost(message)
                time.sleep(_LOOK_EVERY_S)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def with_brought(ranks: Ranks, state: OptimizerState) -> list[OptimizerState]:
    """Return what this rank saves: its own state and, on the first machine, a share of that of other machines.

    Each must call this.
    """
    first = ranks.here_count
    if first == ranks.count:
        return [state]
    layouts = ranks.gather(_each(state, lambda tensor: tensor.to("meta")) if ranks.rank >= first else {})
    saved = [state]
    for giver in range(first, ranks.count):
        taker = giver % first
        if ranks.rank == giver:
            ranks.send(shards.tensors_of(state), taker)
        elif ranks.rank == taker and layouts[giver]:
            received = _each(layouts[giver], lambda tensor: torch.empty_like(tensor, device=HOME))
            ranks.receive(shards.tensors_of(received), giver)
            saved.append(received)
    return saved


def _each(state: OptimizerState, change: Callable[[Tensor], Tensor]) -> OptimizerState:
    """Return the state with `change` applied to each tensor."""
    return {name: {key: _changed(value, change) for key, value in values.items()} for name, values in state.items()}


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Piece):
        return value._replace(part=change(value.part))
    return change(value) if isinstance(value, Tensor) else value
