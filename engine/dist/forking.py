"""Starting the ranks of a run, as forks of their launcher, which has imported once what all of them need.

Only the thread that calls fork exists in the child, and the work of other threads is left half done there. The launcher
has no other thread at that moment: its imports compute nothing, so neither OpenMP's threads nor those of tokenizers have
started, OpenBLAS is limited to one (engine.__main__), and the watch over the deadline is paused.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from engine import gc_pause

HELD_BACK = {signal.SIGTERM, signal.SIGINT}
"""Signals that a rank starts with blocked, so that they wait until it handles them."""
_THREADS = "OMP_NUM_THREADS"


@dataclass
class Process:
    """A rank as its launcher sees it: its exit code is None until it has ended, and negative if a signal ended it."""

    pid: int
    returncode: int | None = None


def can_fork() -> bool:
    """Return whether ranks can be forked: CUDA, which bitsandbytes initializes at import, does not survive a fork."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def prepare(*, zero: bool) -> None:
    """Import what every rank needs; with `zero`, DeepSpeed as well."""
    with gc_pause.paused():
        import engine.process  # torch and transformers: seconds

        if zero:
            import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401 - DeepSpeed imports it later: seconds

            import engine.dist.zero  # noqa: F401 - DeepSpeed itself


def fork(environment: Mapping[str, str], arguments: list[str], main: Callable[[list[str]], NoReturn]) -> Process:
    """Start a rank that shares the imports of this process and is otherwise like a fresh one."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else both processes would write what is buffered
    if pid := os.fork():
        return Process(pid)
    try:
        _reset_signals_and_input()
        _set_environment(environment)
        main(arguments)
    except BaseException:  # noqa: BLE001 - the frames above belong to the launcher
        traceback.print_exc()
    finally:
        os._exit(1)


def spawn(environment: Mapping[str, str], arguments: list[str]) -> Process:
    """Start a rank that imports everything itself."""
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    command = [sys.executable, "-m", "engine", *arguments]
    return Process(os.posix_spawn(sys.executable, command, environment, file_actions=[nothing]))


def _reset_signals_and_input() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _set_environment(environment: Mapping[str, str]) -> None:
    threads_at_import = os.environ.get(_THREADS)
    os.environ.clear()
    os.environ.update(environment)
    if os.environ[_THREADS] != threads_at_import:
        import torch

        torch.set_num_threads(int(os.environ[_THREADS]))  # OpenMP read the variable when it was loaded
