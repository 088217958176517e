"""Stop requests: SIGTERM is remembered until the loop is between two steps."""

import signal
from collections.abc import Callable
from types import FrameType


class StopRequested(Exception):
    """Raised at a safe point after SIGTERM."""


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

    @property
    def own(self) -> "StopFlag":
        """The flag of this process alone."""
        return self

    def among(self, any_asked: Callable[[bool], bool]) -> "SharedStop":
        """Return a flag that these ranks share."""
        return SharedStop(self.own, any_asked)

    def check(self) -> None:
        if self.requested:
            raise StopRequested


class SharedStop(StopFlag):
    """The flag of ranks that work in lockstep: all stop at the same step, whichever got the signal."""

    def __init__(self, own: StopFlag, any_asked: Callable[[bool], bool]) -> None:
        """`any_asked` returns whether a flag is set on any rank."""
        super().__init__()
        self._own, self._any_asked = own, any_asked

    @property
    def own(self) -> StopFlag:
        return self._own

    def check(self) -> None:
        if self._any_asked(self._own.requested):
            raise StopRequested
