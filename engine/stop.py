"""Being asked to stop: SIGTERM is kept until the loop is between two steps."""

import signal
from types import FrameType
from typing import Protocol


class StopRequested(Exception):
    """Raised at a safe point after SIGTERM."""


class _Ranks(Protocol):
    def any(self, flag: bool) -> bool: ...


class StopFlag:
    """Remembers SIGTERM. SIGINT keeps Python's own meaning: KeyboardInterrupt, at once."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # a launcher holds it back until here

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True

    def check(self) -> None:
        if self.requested:
            raise StopRequested


class SharedStop(StopFlag):
    """What ranks that work step by step together ask: all of them stop at one step, whichever heard of it first."""

    def __init__(self, own: StopFlag, ranks: _Ranks) -> None:
        super().__init__()
        self._own, self._ranks = own, ranks

    def check(self) -> None:
        if self._ranks.any(self._own.requested):
            raise StopRequested
