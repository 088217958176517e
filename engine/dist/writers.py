"""The ranks that write a checkpoint together: those that share the first one's disk, each a file of its own."""

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
    """Of one checkpoint. `rank` is this process's number among them, `pids` are their processes."""

    rank: int
    pids: tuple[int, ...]
    timeout_s: float

    @classmethod
    def met(cls, ranks: Ranks, timeout_s: float) -> "Writers | None":
        """All have come as far as this one; None: it writes nothing. Each must call this."""
        pids = ranks.gather(os.getpid())[: ranks.here_count]
        return cls(ranks.rank, tuple(pids), timeout_s) if ranks.rank < ranks.here_count else None

    @property
    def name(self) -> str:
        """Of this one's file."""
        return shards.name_of(self.rank, len(self.pids))

    def wait(self, folder: Path) -> None:
        """Until the others' files lie in `folder`: they have their names once they are durable.

        The ranks tell one another of nothing here, since a thread of its own does this beside the steps.

        Raises:
            TouchLost: one of them has ended without, or takes longer than `timeout_s`.
        """
        until = time.monotonic() + self.timeout_s
        for rank, pid in enumerate(self.pids):
            path, told = folder / shards.name_of(rank, len(self.pids)), f"rank {rank}"
            while True:
                ended = _has_ended(pid)  # first: it may name its file and end just then
                if path.exists():
                    break
                if ended:
                    raise TouchLost(f"{told} ended before its part of the checkpoint was written")
                if time.monotonic() > until:
                    raise TouchLost(f"{told} has not written its part of the checkpoint after {self.timeout_s:g} s")
                time.sleep(_LOOK_EVERY_S)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def with_brought(ranks: Ranks, state: OptimizerState) -> list[OptimizerState]:
    """What this rank is to save: its own, and on the first machine a share of what is on others; each must call this."""
    first = ranks.here_count
    if first == ranks.count:
        return [state]
    layouts = ranks.gather(_each(state, lambda tensor: tensor.to("meta")) if ranks.rank >= first else {})
    taken = [state]
    for giver in range(first, ranks.count):
        taker = giver % first
        if ranks.rank == giver:
            ranks.send(shards.tensors_of(state), taker)
        elif ranks.rank == taker and layouts[giver]:
            here = _each(layouts[giver], lambda tensor: torch.empty_like(tensor, device=HOME))
            ranks.receive(shards.tensors_of(here), giver)
            taken.append(here)
    return taken


def _each(state: OptimizerState, made: Callable[[Tensor], Tensor]) -> OptimizerState:
    """The state with this in the place of each tensor."""
    return {name: {key: _with(value, made) for key, value in values.items()} for name, values in state.items()}


def _with(value: Any, made: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Piece):
        return value._replace(part=made(value.part))
    return made(value) if isinstance(value, Tensor) else value
