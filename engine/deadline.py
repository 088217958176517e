"""The deadline of a run under a lease: the run's processes end themselves unless it is extended in time.

The holder of the lease may be frozen, and could then not end them. The deadline is the modification time of a file, in
seconds of CLOCK_BOOTTIME: extending it takes no space on a full disk, and it is never half read.
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
    """Return the time on the clock of deadlines: one for the machine, which runs on while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def move(root: Path, until_s: float) -> None:
    """Set the deadline of the run in this folder."""
    path = root / _NAME
    if not path.exists():
        path.touch()  # its date is today, which is far in the future on a clock that starts with the machine
    os.utime(path, (until_s, until_s))


class Watch:
    """Kills this process and its group once the deadline has passed; does nothing for a run without a deadline."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._over = threading.Event()
        self._thread = self._begin() if (root / _NAME).exists() else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the watching thread around a fork; the forked process watches for itself."""
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
        # A signal delivered to this thread would not wake the main thread, which handles it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not _passed(self._root):
            if self._over.wait(_LOOK_EVERY_S):
                return
        sys.stderr.write("the lease of this run expired without renewal: the run ends\n")
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _passed(root: Path) -> bool:
    try:
        return (root / _NAME).stat().st_mtime <= now_s()
    except FileNotFoundError:
        return True  # its folder was removed: the attempt is over
    except OSError:
        return False  # a disk that cannot be read at the moment proves nothing
