"""Slow ranks: all wait for the slowest at each step, so one that has been slower than the others for long is named."""

import socket
from collections import deque
from collections.abc import Sequence
from statistics import median

from engine.dist.ranks import Ranks
from engine.journal import Journal

WINDOW = 16
"""Steps over which the middle of each rank's times is taken: one row may be long, and one step disturbed."""
_SLOWER = 1.5


class Stragglers:
    """Looks at what each rank's forward passes took in a step, a token: there none waits for another.

    In stage 3 of ZeRO they do, for the weights, and nothing can be told.
    """

    def __init__(self, ranks: Ranks, journal: Journal) -> None:
        self._journal = journal
        self._hosts = ranks.gather(socket.gethostname())
        self._seconds: deque[Sequence[float]] = deque(maxlen=WINDOW)
        self._named: set[int] = set()

    def look(self, step: int, seconds: Sequence[float]) -> None:
        """`seconds` are those of each rank."""
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
        told = (
            f"rank {slowest} of {len(paces)}, on {host}, takes {ratio:.1f} times as long for its tokens as the others"
        )
        self._journal.log(
            "warn", "slow_rank", f"{told}, which wait for it", rank=slowest, host=host, ratio=ratio, step=step
        )
