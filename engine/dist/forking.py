"""How the ranks of a run begin: as forks of their launcher, which has imported once what all of them need.

A fork has no thread but the one that asked for it, and what another one was about to do stays half done in it. The
launcher has no other at that moment: whatever it imports computes nothing yet, so neither OpenMP's threads nor those of
tokenizers have begun, OpenBLAS is kept to one (engine.__main__), and the watch over the deadline pauses.
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
"""Signals that wait until a rank listens: it begins with them blocked."""
_THREADS = "OMP_NUM_THREADS"


@dataclass
class Process:
    """A rank as its launcher sees it: its exit code is None until it ended, and negative where a signal ended it."""

    pid: int
    returncode: int | None = None


def can_fork() -> bool:
    """CUDA does not work in a fork of a process that has begun with it, as it does where bitsandbytes finds a GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def prepare(*, zero: bool) -> None:
    """Import what each rank needs, `zero` what divides a run."""
    with gc_pause.paused():
        import engine.process  # torch and transformers: seconds

        if zero:
            import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401 - which DeepSpeed does as it begins: seconds

            import engine.dist.zero  # noqa: F401 - DeepSpeed itself


def fork(environment: Mapping[str, str], arguments: list[str], main: Callable[[list[str]], NoReturn]) -> Process:
    """A rank that has what this process has imported, and for the rest is what a fresh one is."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what is still to be written, one of the two has to write
    if pid := os.fork():
        return Process(pid)
    try:
        _forget_launcher()
        _take_over(environment)
        main(arguments)
    except BaseException:  # noqa: BLE001 - what called fork() is the launcher's, whatever happens
        traceback.print_exc()
    finally:
        os._exit(1)


def spawn(environment: Mapping[str, str], arguments: list[str]) -> Process:
    """A rank that imports everything itself."""
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    command = [sys.executable, "-m", "engine", *arguments]
    return Process(os.posix_spawn(sys.executable, command, environment, file_actions=[nothing]))


def _forget_launcher() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _take_over(environment: Mapping[str, str]) -> None:
    read = os.environ.get(_THREADS)
    os.environ.clear()
    os.environ.update(environment)
    if os.environ[_THREADS] != read:
        import torch

        torch.set_num_threads(int(os.environ[_THREADS]))  # OpenMP has read the variable as it was loaded
