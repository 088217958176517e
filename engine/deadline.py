"""The deadline of a run under a lease: its processes end by themselves when nobody has moved it on in time.

Whoever holds the lease may stand still, and can then end nothing. The deadline is the modification time of a file, in
seconds of CLOCK_BOOTTIME: to move it takes no room on a full disk, and it is never read in part.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "deadline"
_LOOK_EVERY_S = 0.1


def now_s() -> float:
    """The clock of deadlines: the machine's own, the same for all its processes, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def move(root: Path, until_s: float) -> None:
    """The run in this folder may go on until then."""
    path = root / _NAME
    if not path.exists():
        path.touch()  # of today, which is far off on a clock that began with the machine
    os.utime(path, (until_s, until_s))


class Watch:
    """Ends this process and all of its group when the deadline has passed; where there is none, it watches nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._over = threading.Event()
        self._thread = self._begin() if (root / _NAME).exists() else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Without its thread, for a fork: what is forked off watches by itself."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._over.clear()
        yield
        if self._thread is not None:
            self._thread = self._begin()

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._look, name="deadline", daemon=True)
        thread.start()
        return thread

    def _look(self) -> None:
        # A signal that this thread got would not wake the main thread, which is to act on it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not _passed(self._root):
            if self._over.wait(_LOOK_EVERY_S):
                return
        sys.stderr.write("the lease of this run is over and was not renewed: the run ends\n")
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _passed(root: Path) -> bool:
    try:
        return (root / _NAME).stat().st_mtime <= now_s()
    except FileNotFoundError:
        return True  # its folder was removed: the attempt is over
    except OSError:
        return False  # a disk that cannot be read just now says nothing
