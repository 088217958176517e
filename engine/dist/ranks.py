"""The processes that carry out a run together: which one this is, and what they tell one another."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import TouchLost
from engine.stop import StopRequested

_BUCKET_NUMBERS = 1 << 23
"""Summed at once: 32 MiB in fp32."""
_PATIENCE_S = 86_400.0
"""For work that each does by itself, which may take hours. A process that is gone is noticed all the same: its line closes."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ranks:
    """This process's number among `count`; by itself it is all of them, and nothing below costs anything."""

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None
    """They, where they are not all that have met."""

    def teams(self, size: int, timeout_s: float) -> "Teams":
        """In each `size` neighbours that work on the same rows; each must call this."""
        members = [range(first, first + size) for first in range(0, self.count, size)]
        places = [range(place, self.count, size) for place in range(size)]
        with told_as_lost():
            made: list[Any] = [dist.new_group(ranks, timedelta(seconds=timeout_s)) for ranks in (*members, *places)]
        team, place = self.rank // size, self.rank % size
        return Teams(Ranks(place, size, made[team]), Ranks(team, len(members), made[len(members) + place]))

    @property
    def ask_every(self) -> int:
        """After so many passes without a backward pass they ask one another whether to stop, and wait for all to answer."""
        return 1

    @classmethod
    def here(cls) -> "Ranks":
        """As torchrun's environment has it, which our own launcher sets too."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def here_count(self) -> int:
        """How many of them share this machine."""
        return min(self.count, int(os.environ.get("LOCAL_WORLD_SIZE", str(self.count))))

    @property
    def leads(self) -> bool:
        """One rank writes events, checkpoints and results."""
        return self.rank == 0

    def connect(self, device: torch.device, meeting: Path, timeout_s: float) -> None:
        """Meet the others: at MASTER_ADDR where that is given, else, on one machine, by the file `meeting`.

        Raises:
            TouchLost: one of them did not come in time.
        """
        if self.count == 1 or dist.is_initialized():
            return
        place = "env://" if "MASTER_ADDR" in os.environ else f"file://{meeting}"
        with told_as_lost():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                init_method=place,
                rank=self.rank,
                world_size=self.count,
                timeout=timedelta(seconds=timeout_s),
            )

    def gather(self, told: T) -> list[T]:
        """What every rank tells, in their order; each must call this."""
        if self.count == 1:
            return [told]
        all_told: list[T] = [told] * self.count
        with told_as_lost():
            dist.all_gather_object(all_told, told, group=self.group)
        return all_told

    def totals(self, numbers: Sequence[float]) -> list[float]:
        """Each number's sum over the ranks; each must call this."""
        if self.count == 1:
            return list(numbers)
        added = torch.tensor(numbers, dtype=torch.float64)
        with told_as_lost():
            dist.all_reduce(added, group=self.group)
        return added.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it holds on any rank; each must call this."""
        return self.totals([float(flag)])[0] > 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            self.gather(None)

    def patient(self) -> "Ranks":
        """The same, who wait for one another however long one works by itself; each must call this, before that work."""
        if self.count == 1:
            return self
        members = None if self.group is None else dist.get_process_group_ranks(self.group)
        timeout, alone = timedelta(seconds=_PATIENCE_S), members is not None
        self.wait()  # while such a group is made, one that is gone is not noticed
        with told_as_lost():
            group: Any = dist.new_group(members, timeout, backend="gloo", use_local_synchronization=alone)
        return Ranks(self.rank, self.count, group)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """On each machine one rank does it alone, the others after it: they find in a cache what it has made."""
        first, patient = self.rank % self.here_count == 0, self.patient()
        if not first:
            patient.wait()
        yield
        if first:
            patient.wait()

    def of_first_machine(self) -> "Ranks | None":
        """Those that share a disk with the first one, which go on without the others; None: this one is not of them.

        Each must call this.
        """
        if self.here_count == self.count:
            return self
        with told_as_lost():
            group = dist.new_group(range(self.here_count))
        return Ranks(self.rank, self.here_count, group) if isinstance(group, dist.ProcessGroup) else None

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by its sum over the ranks, the same bits on all of them."""
        if self.count == 1:
            return
        with told_as_lost():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.flatten() for tensor in bucket])
                dist.all_reduce(flat, group=self.group)
                sizes = [tensor.numel() for tensor in bucket]
                for tensor, total in zip(bucket, flat.split(sizes), strict=True):
                    tensor.copy_(total.view_as(tensor))

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give all ranks the first one's."""
        if self.count > 1:
            with told_as_lost():
                for tensor in tensors:
                    dist.broadcast(tensor, group=self.group, group_src=0)

    def send(self, tensors: Sequence[Tensor], taker: int) -> None:
        """From this machine's memory to that of another rank, which is to `receive` them."""
        with told_as_lost():
            for tensor in tensors:
                dist.send(tensor.contiguous(), group=self.group, group_dst=taker)

    def receive(self, tensors: Sequence[Tensor], giver: int) -> None:
        """Into these."""
        with told_as_lost():
            for tensor in tensors:
                dist.recv(tensor, group=self.group, group_src=giver)

    def divide(self, items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
        """What `work` makes of each item, on one of the ranks; in their order.

        Raises:
            StopRequested: on all ranks when it was raised on one.
        """
        if self.count == 1:
            return work(items)
        patient = self.patient()  # what one has to do may take longer than what another has
        try:
            mine = work(self.share(items, self.rank))
        except StopRequested:
            mine = None
        told = patient.gather(mine)
        done = [part for part in told if part is not None]
        if len(done) < self.count:
            raise StopRequested
        return [done[number % self.count][number // self.count] for number in range(len(items))]

    def share(self, items: Sequence[T], rank: int) -> Sequence[T]:
        """What of `items` a rank is given by `divide`."""
        return items[rank :: self.count]

    def turns(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """This rank's share of `items`, every so-manyth, and whether each counts.

        All ranks have equally many, since some passes are made together: who has one less does the first again.
        """
        most = -(-len(items) // self.count)
        mine = self.share(items, self.rank)
        return [(item, True) for item in mine] + [(items[0], False)] * (most - len(mine))


class Teams(NamedTuple):
    """Those of a rank's own team, and those who have its place in each: whose teams deal the rows out."""

    team: Ranks
    replicas: Ranks


def is_loss_of_touch(error: Exception) -> bool:
    """Whether an exception means that another rank is gone or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


@contextmanager
def told_as_lost() -> Iterator[None]:
    """Raises TouchLost in the place of what torch says where another rank is gone or does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise TouchLost(f"another process of the run is gone or does not answer: {error}") from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and held + tensor.numel() > _BUCKET_NUMBERS:
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.numel()
    if bucket:
        yield bucket
