"""The nursery: the service's parts as forks of one process that has imported all of them.

A part that was killed is back in milliseconds, not after the seconds that it takes to import torch,
so a campaign can kill several a second. From its fork on a part is what `python -m MODULE` is: an
environment, a session and a memory of its own, and it runs that module's `main`.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import traceback
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from tests.chaos import bugs, durability, stall
from tests.servers import tie_to_parent

MAINS = {"api": "api.__main__", "workers": "workers.__main__", "workers.recover": "workers.recover"}
_OF_ENGINES = {
    "OMP_NUM_THREADS": "1",  # threads only get in each other's way in models this small
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "OMP_WAIT_POLICY": "PASSIVE",
}
_FOR_ENGINES = {"TRAINYARD_CACHE_BYTES", "TRAINYARD_LEASED"}
_FIRST_OF_OTHERS, _LAST = 3, 4096
"""File descriptors that a fork inherits and a fresh process would not have."""

_MARK = ("CHAOS_OF", str(os.getpid()))
"""In the environment that the nursery was started with, so that /proc shows it for every fork of it."""

_context = multiprocessing.get_context("forkserver")


def open_nursery() -> None:
    """Start the process that all parts are forked from, and have it import everything."""
    os.environ.update(_OF_ENGINES)
    os.environ.update([_MARK])
    _context.set_forkserver_preload([*MAINS.values(), "api.app", "workers.tasks", "engine.process", __name__])
    forkserver.ensure_running()
    del os.environ[_MARK[0]]


def forked() -> list[int]:
    """Every process that comes from the nursery; the nursery itself, which is our child, is none."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _is_fork(path)]


def _is_fork(process: Path) -> bool:
    try:
        marked = "=".join(_MARK).encode() in (process / "environ").read_bytes().split(b"\0")
        return marked and f"\nPPid:\t{os.getpid()}\n" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def start(module: str, environment: dict[str, str], log: Path, bug: str | None) -> int:
    """Start a part; its process id."""
    process = _context.Process(target=_become, args=(module, environment, str(log), bug))
    process.start()
    assert process.pid is not None
    return process.pid


def _become(module: str, environment: dict[str, str], log: str, bug: str | None) -> None:
    tie_to_parent()
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    durability.keep_record()
    stall.listen()
    importlib.import_module("workers.process")._start = fork_engine
    if bug is not None:
        bugs.plant(bug)
    importlib.import_module(MAINS[module]).main()


class ForkedEngine:
    """As much of subprocess.Popen as a worker uses of it."""

    stdin = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def fork_engine(arguments: list[str], *, stdin: int, stdout: int) -> ForkedEngine:
    """`workers.process._start`, with a fork where that has a fresh process."""
    del stdin
    ready, tell = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.read(ready, 1)  # its process group exists: from now on a kill reaches it
        os.close(ready)
        return ForkedEngine(pid)
    code = 1
    try:
        os.setsid()
        os.dup2(stdout, sys.stdout.fileno())
        os.dup2(stdout, sys.stderr.fileno())
        os.write(tell, b".")
        os.closerange(_FIRST_OF_OTHERS, _LAST)
        durability.end_record()
        code = _run_engine(arguments, parent)
    finally:
        os._exit(code)


def _run_engine(arguments: list[str], parent: int) -> int:
    for name in [name for name in os.environ if name.startswith("TRAINYARD_") and name not in _FOR_ENGINES]:
        del os.environ[name]
    if not bugs.planted("pdeathsig"):
        os.environ["TRAINYARD_PARENT_PID"] = str(parent)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    engine: Any = importlib.import_module("engine.__main__")
    try:
        return engine.main(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001 - as in `python -m engine`: everything that ends a run has an exit code
        traceback.print_exc()
        return 1
