"""A child process of the supervisor: tied to its life, restarted with growing pauses, stopped in order."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.home import open_log
from cli.place import PACKAGES_DIR

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 30.0
"""A process that has lived this long starts counting its deaths anew."""
_TIED = Path(__file__).with_name("tied.py")


@dataclass(frozen=True)
class Program:
    """A command to run, and how long it may take to end after SIGTERM."""

    name: str
    command: tuple[str, ...]
    grace_s: float = 5.0
    environment: dict[str, str] = field(default_factory=dict)


class Child:
    """A program and its current process, if any."""

    def __init__(self, program: Program, home: Path) -> None:
        self.program = program
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restarts = 0
        self.deaths_in_a_row = 0
        self.start_after = 0.0

    def start(self) -> None:
        """Start the process in its own session, so that Ctrl-C in the terminal does not reach it."""
        log = open_log(self.home, self.program.name)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", str(_TIED), str(os.getpid()), *self.program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PACKAGES_DIR,  # `-m api` must find our package, not an `api` folder in the user's directory
                env={**os.environ, **self.program.environment},
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.started_at = time.time()

    def tend(self) -> int | None:
        """Start the process if it is due; return the exit code of one that has died since the last call."""
        now = time.time()
        if self.process is None:
            if now >= self.start_after:
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        self.deaths_in_a_row = 1 if now - self.started_at > _HEALTHY_S else self.deaths_in_a_row + 1
        self.start_after = now + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (self.deaths_in_a_row - 1))
        self.restarts += 1
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, grace_s: float) -> bool:
        """Wait for the end, then kill the process group after the grace period; return True if it ended by itself."""
        if self.process is None:
            return True
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False
        return True

    def state(self) -> dict[str, Any]:
        """Return what `trainyard status` shows."""
        return {
            "name": self.program.name,
            "pid": self.process.pid if self.process else None,
            "started_at": self.started_at if self.process else None,
            "restarts": self.restarts,
        }
