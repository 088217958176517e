"""The engine as a process: its own session, tied to the life of the process that starts it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import engine
from workers.settings import WorkerSettings

ROOT = Path(engine.__file__).parent.parent
"""The folder that `engine` is imported from."""
ENGINE = (sys.executable, "-m", "engine")
_LOG_NAME = "engine.log"


class EngineProcess:
    """`python -m engine`, started by the main thread of its parent.

    The engine asks the kernel to kill it when its parent ends, and for the kernel the parent is
    the thread: one started by a thread that ends would end with it.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    @classmethod
    def cold(cls, run_dir: Path) -> Self:
        """Start it on a run directory."""
        with (run_dir / _LOG_NAME).open("ab") as log:
            return cls(_start([str(run_dir)], stdin=subprocess.DEVNULL, stdout=log.fileno()))

    @classmethod
    def waiting(cls, log_path: Path) -> Self:
        """Start it without a run directory: it imports what it needs and waits for `hand_over`."""
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("wb") as log:
            return cls(_start(["--wait"], stdin=subprocess.PIPE, stdout=log.fileno()))

    def hand_over(self, run_dir: Path, log_path: Path) -> None:
        """Give a waiting engine its run directory; its log, which it holds open, moves there.

        Raises:
            BrokenPipeError: it ended while it waited.
        """
        assert self._popen.stdin is not None
        log_path.rename(run_dir / _LOG_NAME)
        with self._popen.stdin as pipe:
            pipe.write(f"{run_dir}\n".encode())

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs. Stragglers of its group end too."""
        if self._popen.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.kill()  # before it is reaped: its id cannot have been given to another yet
        return self._popen.wait()

    def ask(self, number: signal.Signals) -> None:
        """Send a signal to the engine alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it and everything it has started, now."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError):  # another thread has seen its end meanwhile
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it unless it has ended, and wait until it is gone."""
        self.kill()
        self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()


def log_path(run_dir: Path) -> Path:
    """Where the engine's stdout and stderr go."""
    return run_dir / _LOG_NAME


def environment() -> dict[str, str]:
    """That of an engine: it reads models and data that users brought, and is given none of the service's secrets.

    How much it may cache is told as its worker has read it, to whom an empty variable and 1000.0 are numbers too. GPUs have the
    numbers by which their driver tells of them (workers.machine): CUDA by itself counts the quickest first.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    told = {"TRAINYARD_CACHE_BYTES": WorkerSettings().cache_bytes, "TRAINYARD_PARENT_PID": os.getpid()}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | given | {name: str(number) for name, number in told.items()}


def _start(arguments: list[str], *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*ENGINE, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    )
