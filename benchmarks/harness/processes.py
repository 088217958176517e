"""Processes to measure: starting and stopping them, and the CPU time of a whole tree, read from /proc."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

_TICK_HZ = os.sysconf("SC_CLK_TCK")
_QUIET_SHARE = 0.05
_QUIET_WINDOW_S = 0.5
_STOP_S = 30.0
REPOSITORY = Path(__file__).resolve().parents[2]


def cpu_s(pids: Iterable[int]) -> float:
    """Return CPU-seconds, user and system, of processes and all their descendants, including ended ones."""
    return sum(_tree_cpu_s(pid) for pid in pids)


def _tree_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(field) for field in fields[11:15]) / _TICK_HZ  # utime, stime, cutime, cstime
    return own + sum(_tree_cpu_s(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def wait_quiet(pids: Sequence[int], limit_s: float = 60.0) -> None:
    """Wait until processes are idle: under 5% of a core over half a second."""
    deadline = time.monotonic() + limit_s
    before = cpu_s(pids)
    while time.monotonic() < deadline:
        time.sleep(_QUIET_WINDOW_S)
        now = cpu_s(pids)
        if now - before < _QUIET_SHARE * _QUIET_WINDOW_S:
            return
        before = now
    raise TimeoutError(f"{pids} are still busy after {limit_s:.0f} s")


@contextmanager
def running(
    command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in its own session with its output in a file; it is stopped at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **environment}, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the session, and SIGKILL if it has not ended in time."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, path: str) -> bool:
    """Whether a GET of the path on loopback answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, limit_s: float = 60.0) -> None:
    """Wait until the server is ready; if it ends instead, the error contains the end of its log."""
    deadline = time.monotonic() + limit_s
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


class Asked:
    """A child process that answers each line of its stdin with one line of JSON; it ends with its stdin."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )

    def ask(self, line: str) -> Any:
        """Send a line and return the answer. Raises RuntimeError if the process gives none."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args} failed at {line!r}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
