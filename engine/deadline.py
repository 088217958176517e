"""The deadline of a run under a lease: its processes end by themselves when nobody has moved it on in time.

Whoever holds the lease may stand still, and can then end nothing. The deadline is the modification time of a file, in
seconds of CLOCK_BOOTTIME: to move it takes no room on a full disk, and it is never read in part.
"""

import os
import signal
import sys
import threading
import time
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


def watch(root: Path) -> None:
    """End this process and all of its group when the deadline has passed; without one, nothing is watched."""
    if (root / _NAME).exists():
        threading.Thread(target=_watch, args=(root,), name="deadline", daemon=True).start()


def _watch(root: Path) -> None:
    # A signal that this thread got would not wake the main thread, which is to act on it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while not _passed(root):
        time.sleep(_LOOK_EVERY_S)
    sys.stderr.write("the lease of this run is over and was not renewed: the run ends\n")
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _passed(root: Path) -> bool:
    try:
        return (root / _NAME).stat().st_mtime <= now_s()
    except FileNotFoundError:
        return True  # its folder was removed: the attempt is over
    except OSError:
        return False  # a disk that cannot be read just now says nothing
