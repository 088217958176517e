"""The processes that carry out a run together: their numbers, and how they communicate."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import TouchLost
from engine.failure import is_out_of_memory
from engine.stop import StopRequested

_BUCKET_NUMBERS = 1 << 23
"""How many numbers are summed at once: 32 MiB in fp32."""
_PATIENCE_S = 86_400.0
"""The timeout for work that a rank does by itself, which may take hours. A process that has ended is noticed at once all
the same: its connection closes."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Ranks:
    """The `count` ranks of a run or of a part of it, and this process's number among them.

    With a single rank, none of the methods communicates.
    """

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None
    """Their process group, None for that of all ranks."""

    def teams(self, size: int, timeout_s: float) -> "Teams":
        """Divide the ranks into teams of `size` neighbours, which work on the same rows; each must call this."""
        members = [range(first, first + size) for first in range(0, self.count, size)]
        places = [range(place, self.count, size) for place in range(size)]
        with as_touch_lost():
            groups: list[Any] = [dist.new_group(ranks, timedelta(seconds=timeout_s)) for ranks in (*members, *places)]
        team, place = self.rank // size, self.rank % size
        return Teams(Ranks(place, size, groups[team]), Ranks(team, len(members), groups[len(members) + place]))

    @property
    def ask_every(self) -> int:
        """After how many forward passes without backward passes the ranks agree on whether to stop."""
        return 1

    @classmethod
    def here(cls) -> "Ranks":
        """Read the numbers from the environment, where torchrun and our own launcher set them."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def here_count(self) -> int:
        """How many of the ranks are on this machine."""
        return min(self.count, int(os.environ.get("LOCAL_WORLD_SIZE", str(self.count))))

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes events, checkpoints and results."""
        return self.rank == 0

    def connect(self, device: torch.device, meeting: Path, timeout_s: float) -> None:
        """Connect to the other ranks: at MASTER_ADDR if it is set, else, on one machine, through the file `meeting`.

        Raises:
            TouchLost: not all of them connected in time.
        """
        if self.count == 1 or dist.is_initialized():
            return
        place = "env://" if "MASTER_ADDR" in os.environ else f"file://{meeting}"
        with as_touch_lost():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                init_method=place,
                rank=self.rank,
                world_size=self.count,
                timeout=timedelta(seconds=timeout_s),
            )

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of their numbers; each must call this."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        with as_touch_lost():
            dist.all_gather_object(values, value, group=self.group)
        return values

    def totals(self, numbers: Sequence[float]) -> list[float]:
        """Return each number's sum over the ranks; each must call this."""
        if self.count == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        with as_touch_lost():
            dist.all_reduce(sums, group=self.group)
        return sums.tolist()

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set on any rank; each must call this."""
        return self.totals([float(flag)])[0] > 0

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self.count > 1:
            self.gather(None)

    def patient(self) -> "Ranks":
        """Return the same ranks, which wait for one another for as long as one of them works by itself.

        The first call makes their group. Each must call this, ahead of that work.
        """
        return self if self.count == 1 else self._patient

    @cached_property
    def _patient(self) -> "Ranks":
        members = None if self.group is None else dist.get_process_group_ranks(self.group)
        timeout, alone = timedelta(seconds=_PATIENCE_S), members is not None
        self.wait()  # while the group is made, a rank that has ended would not be noticed
        with as_touch_lost():
            group: Any = dist.new_group(members, timeout, backend="gloo", use_local_synchronization=alone)
        return Ranks(self.rank, self.count, group)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the body on one rank of each machine first; the others then find its results in a cache."""
        first, patient = self.rank % self.here_count == 0, self.patient()
        if not first:
            patient.wait()
        yield
        if first:
            patient.wait()

    def of_first_machine(self) -> "Ranks | None":
        """Return the ranks that share a disk with the first one, or None on a rank of another machine.

        Each must call this.
        """
        if self.here_count == self.count:
            return self
        with as_touch_lost():
            group = dist.new_group(range(self.here_count))
        return Ranks(self.rank, self.here_count, group) if isinstance(group, dist.ProcessGroup) else None

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, which is the same to the bit on all of them."""
        if self.count == 1:
            return
        with as_touch_lost():
            for bucket in _buckets(tensors):
                if len(bucket) == 1 and bucket[0].is_contiguous():  # large ones are alone: a copy might not fit
                    dist.all_reduce(bucket[0], group=self.group)
                    continue
                flat = torch.cat([tensor.flatten() for tensor in bucket])
                dist.all_reduce(flat, group=self.group)
                sizes = [tensor.numel() for tensor in bucket]
                for tensor, total in zip(bucket, flat.split(sizes), strict=True):
                    tensor.copy_(total.view_as(tensor))

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors of all ranks with those of the first."""
        if self.count > 1:
            with as_touch_lost():
                for tensor in tensors:
                    dist.broadcast(tensor, group=self.group, group_src=0)

    def send(self, tensors: Sequence[Tensor], taker: int) -> None:
        """Send tensors in this machine's memory to the rank `taker`, which has to `receive` them."""
        with as_touch_lost():
            for tensor in tensors:
                dist.send(tensor.contiguous(), group=self.group, group_dst=taker)

    def receive(self, tensors: Sequence[Tensor], giver: int) -> None:
        """Receive tensors that the rank `giver` sends, into `tensors`."""
        with as_touch_lost():
            for tensor in tensors:
                dist.recv(tensor, group=self.group, group_src=giver)

    def divide(self, items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
        """Divide the items among the ranks and return the results of all, in the order of the items.

        Raises:
            StopRequested: on all ranks if `work` raised it on one.
        """
        if self.count == 1:
            return work(items)
        patient = self.patient()  # one share may take much longer than another
        try:
            mine = work(self.share(items, self.rank))
        except StopRequested:
            mine = None
        done = [part for part in patient.gather(mine) if part is not None]
        if len(done) < self.count:
            raise StopRequested
        return [done[number % self.count][number // self.count] for number in range(len(items))]

    def share(self, items: Sequence[T], rank: int) -> Sequence[T]:
        """Return the items that `divide` gives to a rank."""
        return items[rank :: self.count]

    def turns(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """Return this rank's share of `items`, each with whether it counts.

        All ranks get equally many, since they may compute passes together: a rank with one item less gets the first item
        of all again, which does not count.
        """
        most = -(-len(items) // self.count)
        mine = self.share(items, self.rank)
        return [(item, True) for item in mine] + [(items[0], False)] * (most - len(mine))


class Teams(NamedTuple):
    """The ranks of a rank's own team, and those with its place in every team, among which rows are dealt out."""

    team: Ranks
    replicas: Ranks


@contextmanager
def as_touch_lost() -> Iterator[None]:
    """Raise TouchLost in place of torch's errors, since they mean that another rank is gone or does not answer.

    Errors for want of memory pass: they are this rank's own.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
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
