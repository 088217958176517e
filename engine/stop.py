"""Being asked to stop: SIGTERM is kept until the loop is between two steps."""

import signal
from types import FrameType


class StopRequested(Exception):
    """Raised at a safe point after SIGTERM."""


class StopFlag:
    """Remembers SIGTERM. SIGINT keeps Python's own meaning: KeyboardInterrupt, at once."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.requested = True

    def check(self) -> None:
        if self.requested:
            raise StopRequested
