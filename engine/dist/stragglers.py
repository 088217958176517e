"""Detection of slow ranks: all wait for the slowest in each step, so one that is slower for long is reported."""

import socket
from collections import deque
from collections.abc import Sequence
from statistics import median

from engine.dist.ranks import Ranks
from engine.journal import Journal

WINDOW = 16
"""How many steps the median of each rank's times is taken over: a single row may be long, a single step disturbed."""
_SLOWER = 1.5


class Stragglers:
    """Compares the ranks' seconds per token in forward passes, in which none waits for another.

    In stage 3 of ZeRO ranks do wait for one another there, for weights, and their times say nothing.
    """

    def __init__(self, ranks: Ranks, journal: Journal) -> None:
        self._journal = journal
        self._hosts = ranks.gather(socket.gethostname())
        self._seconds: deque[Sequence[float]] = deque(maxlen=WINDOW)
        self._named: set[int] = set()

    def look(self, step: int, seconds: Sequence[float]) -> None:
        """Take the seconds per token of each rank in a step; the slowest is reported once."""
        self._seconds.append(seconds)
        if len(self._seconds) < WINDOW:
            return
        paces = [median(of_rank) for of_rank in zip(*self._seconds, strict=True)]
        slowest = max(range(len(paces)), key=paces.__getitem__)
        others = median(pace for rank, pace in enumerate(paces) if rank != slowest)
        if slowest in self._named or not others or paces[slowest] < _SLOWER * others:
            return
        self._named.add(slowest)
        ratio, host = paces[slowest] / others, self._hosts[slowest]
        message = (
            f"rank {slowest} of {len(paces)}, on {host}, takes {ratio:.1f} times as long per token as the others, "
            "which wait for it"
        )
        self._journal.log("warn", "slow_rank", message, rank=slowest, host=host, ratio=ratio, step=step)
