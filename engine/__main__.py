"""`python -m engine RUN_DIR` carries out a run; with `--wait`, it imports everything first and reads RUN_DIR from stdin.

`python -m engine --serve` answers questions (engine.resident).
"""

import ctypes
import os
import signal
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from engine import deadline, gc_pause
from engine.dist.crew import crew_of
from engine.dist.launch import launch
from engine.rundir import RunDirectory
from engine.stop import StopFlag

_PARENT = "TRAINYARD_PARENT_PID"
_LEASED = "TRAINYARD_LEASED"
"""Set by a launcher that works under a lease, for its ranks."""
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_USAGE = "usage: python -m engine RUN_DIR | python -m engine --wait | python -m engine --serve"


def main(arguments: list[str]) -> int:
    """Return the exit code of the process (engine.errors)."""
    if not _tied_to_parent():
        return 1
    _show_rank()
    if len(arguments) != 1:
        sys.stderr.write(_USAGE + "\n")
        return 64
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Threads that spin while waiting would slow down everything else on the machine: the service, other jobs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # numpy and scipy each load an OpenBLAS that starts threads at once; nothing here has work for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a launcher holds it back until here
    if arguments == ["--serve"]:
        return _serve()
    return _wait() if arguments == ["--wait"] else _carry_out(Path(arguments[0]))


def _carry_out(root: Path) -> int:
    stop, run = StopFlag(), RunDirectory(root)
    stop.listen()
    watch = None
    # Without a lease a person runs it, perhaps in a folder that a worker left. Ranks watch too: their launcher may hang.
    if _LEASED in os.environ or (_PARENT in os.environ and "RANK" not in os.environ):
        os.environ[_LEASED] = "1"
        watch = deadline.Watch(root)
    if (crew := crew_of(run)).total > 1:
        return launch(run, crew, stop, _to_the_end, alone=watch.paused() if watch else nullcontext())
    with gc_pause.paused():
        from engine.process import carry_out  # torch and transformers take seconds; the parent was checked before

    return carry_out(root, stop)


def _wait() -> int:
    """Import everything, then wait for a run directory on stdin; SIGTERM ends the process at once while it waits."""
    with gc_pause.paused():
        import engine.process  # noqa: F401 - the slow imports are done before a run is named

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = sys.stdin.readline().strip()
    return _carry_out(Path(line)) if line else 0


def _serve() -> int:
    """Answer questions from stdin. Only answers go to stdout; whatever libraries print there goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with gc_pause.paused():
        from engine.resident import serve

    serve(sys.stdin, answers)
    return 0


def _tied_to_parent() -> bool:
    """Have the kernel end this process with the worker that started it; return False if that is gone already."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return True
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == int(parent)


def _show_rank() -> None:
    """Name the process by its rank in ps and top: forks share the command line."""
    if (rank := os.environ.get("RANK")) is not None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"rank {rank}".encode(), 0, 0, 0)


def _to_the_end(arguments: list[str]) -> NoReturn:
    """Run `main` and exit."""
    try:
        code = main(arguments)
    except KeyboardInterrupt:
        code = 130
    except Exception:  # noqa: BLE001 - the last line of defence: everything that ends a run has an exit code
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: thread pools and CUDA contexts may hang in their own exit handlers; every file is flushed.
    os._exit(code)


if __name__ == "__main__":
    _to_the_end(sys.argv[1:])
