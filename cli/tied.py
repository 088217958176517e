"""Run a command that dies with its parent: `python -S -E tied.py PARENT_PID COMMAND...`.

The kernel ends this process when the supervisor ends, even by kill -9. It is a separate program, not a `preexec_fn`,
so that nothing runs between fork and exec.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tie_to_parent(parent_pid: int, death_signal: signal.Signals) -> None:
    """Make the kernel send `death_signal` to this process when its parent ends.

    Raises:
        SystemExit: the parent has already ended.
    """
    if sys.platform != "linux":
        return  # elsewhere only an orderly end of the supervisor stops its children
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise SystemExit(f"parent {parent_pid} has gone")


if __name__ == "__main__":
    tie_to_parent(int(sys.argv[1]), signal.SIGKILL)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - becoming the command is what this program is for
