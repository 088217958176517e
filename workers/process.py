"""The engine's process: it has a session of its own, and ends with the process that started it."""

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

    The engine asks the kernel to kill it when its parent ends. For the kernel the parent is a thread, so an engine
    that another thread started would end with that thread.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid

    @classmethod
    def cold(cls, run_dir: Path) -> Self:
        """Start an engine on a run directory."""
        with (run_dir / _LOG_NAME).open("ab") as log:
            return cls(_start([str(run_dir)], stdin=subprocess.DEVNULL, stdout=log.fileno()))

    @classmethod
    def waiting(cls, log_path: Path) -> Self:
        """Start an engine without a run directory: it imports its modules and waits for `hand_over`."""
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
        """Return the exit code, negative for a signal, or None while it runs. At its end its whole group is killed."""
        if self._popen.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.kill()  # before it is reaped, so that its id cannot have been given to another process
        return self._popen.wait()

    def ask(self, number: signal.Signals) -> None:
        """Send a signal to the engine alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill it and everything that it has started."""
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
    """Return the file that holds the engine's stdout and stderr."""
    return run_dir / _LOG_NAME


def environment() -> dict[str, str]:
    """Return the environment of an engine, without the service's secrets, since it reads models and data of users.

    The size of the cache is passed as its worker has parsed it: an empty variable and 1000.0 are valid there. GPUs are
    numbered as the driver lists them (workers.machine); by default CUDA numbers the fastest first.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    added = {"TRAINYARD_CACHE_BYTES": WorkerSettings().cache_bytes, "TRAINYARD_PARENT_PID": os.getpid()}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | given | {name: str(number) for name, number in added.items()}


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
