"""The supervisor behind `trainyard up`: starts the service's processes, restarts those that die, stops all in order."""

import ctypes
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli.child import Child, Program
from cli.errors import CommandError, Exit
from cli.home import log_tail, mark_initialised, open_log, remove_state, write_state
from cli.place import PACKAGES_DIR
from cli.valkey import valkey_program

_TICK_S = 0.05
_PROBE_EVERY_S = 0.1
_DEATHS_BEFORE_GIVING_UP = 5
_SAVE_WITHIN_S = 18.0
"""The default of TRAINYARD_STOP_GRACE_S: the engine finishes its step and saves a checkpoint."""
_STORE_WITHIN_S = 60.0
"""The worker then stores the checkpoint."""
_API_GRACE_S = 12.0
"""Responses in progress are finished first."""
_SLACK_S = 10.0
"""Time to wait for processes that are killed after their grace period."""
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Starts, tends and stops the processes of one home folder."""

    def __init__(self, home: Path, port: int, broker_port: int, key_file: Path, tell: Callable[[str], None]) -> None:
        self.home = home
        self.port = port
        self.key_file = key_file
        self.tell = tell
        self.url = f"http://127.0.0.1:{port}"
        self.started_at = time.time()
        self.ready = False
        self.stop_requests = 0
        self.next_probe_at = 0.0
        self.written: dict[str, Any] | None = None
        environment = {
            "TRAINYARD_HOME": str(home),
            "TRAINYARD_HOST": "127.0.0.1",  # where `answers` probes, whatever the operator's shell sets
            "TRAINYARD_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
        self.brokers: list[Child] = []
        if "TRAINYARD_BROKER_URL" not in os.environ:
            broker, environment["TRAINYARD_BROKER_URL"] = valkey_program(home, broker_port)
            self.brokers = [Child(broker, home)]
        self.environment = environment
        self.api = self._python_child("api", "api", grace_s=_API_GRACE_S)
        self.worker = self._python_child("worker", "workers", grace_s=_worker_grace_s())
        self.reaper = self._python_child("reaper", "workers.recover")
        self.desk = self._python_child("desk", "workers.desk")

    def _python_child(self, name: str, module: str, grace_s: float = 5.0) -> Child:
        command = (sys.executable, "-m", module)
        return Child(Program(name, command, grace_s, self.environment), self.home)

    @property
    def children(self) -> list[Child]:
        """Return the children to run now. Worker, reaper and desk start only once the API answers."""
        later = [self.worker, self.reaper, self.desk] if self.ready else []
        return [*self.brokers, self.api, *later]

    @property
    def stop_s(self) -> float:
        """The longest time that stopping all of them may take."""
        everyone = (*self.brokers, self.api, self.worker, self.reaper, self.desk)
        return sum(child.program.grace_s for child in everyone) + _SLACK_S

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop everything. A second signal skips the grace periods.

        Raises:
            CommandError: the service cannot start; the message ends with the log of the process that died.
        """
        _adopt_orphans()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self._request_stop)
        try:
            for broker in self.brokers:
                broker.start()
            self._bootstrap()
            while not self.stop_requests:
                self._tick()
                time.sleep(_TICK_S)
        finally:
            self._stop()

    def _request_stop(self, number: int, _: object) -> None:
        # A closing terminal sends SIGHUP itself and through its shell: a second one is not a second request.
        if number != signal.SIGHUP or not self.stop_requests:
            self.stop_requests += 1

    def _bootstrap(self) -> None:
        """Migrate the database and write the first key, in a separate process."""
        self.key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "api.bootstrap", "--key-file", str(self.key_file)]
        log = open_log(self.home, "bootstrap")
        try:
            done = subprocess.run(
                command, stdout=log, stderr=log, cwd=PACKAGES_DIR, env={**os.environ, **self.environment}, check=False
            )
        finally:
            os.close(log)
        if done.returncode and not self.stop_requests:
            raise CommandError(f"The database could not be prepared:\n{log_tail(self.home, 'bootstrap')}")
        if not done.returncode:
            mark_initialised(self.home, self.key_file)

    def _tick(self) -> None:
        for child in self.children:
            code = child.tend()
            if code is not None:
                self._report_death(child, code)
        _reap_strangers({child.process.pid for child in self.children if child.process})
        if not self.ready and time.monotonic() >= self.next_probe_at:
            self.next_probe_at = time.monotonic() + _PROBE_EVERY_S
            self.ready = answers(self.port)
            if self.ready:
                self._narrate(f"Trainyard runs at {self.url} (started in {time.time() - self.started_at:.1f} s)")
        self._write_state()

    def _report_death(self, child: Child, code: int) -> None:
        name = child.program.name
        if not self.ready and child.deaths_in_a_row >= _DEATHS_BEFORE_GIVING_UP:
            raise CommandError(f"{name} keeps ending (exit code {code}):\n{log_tail(self.home, name)}")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        pause = max(0.0, child.start_after - time.time())
        self._narrate(f"{name} ended {how}; it restarts in {pause:.1f} s. Its log: {self.home}/logs/{name}.log")

    def _narrate(self, sentence: str) -> None:
        """Print a message; a closed terminal or a full disk must not affect the service."""
        with suppress(OSError):
            self.tell(sentence)

    def _write_state(self) -> None:
        """Write the state for `status` and `up --detach`, if it has changed."""
        state = {
            "pid": os.getpid(),
            "url": self.url,
            "home": str(self.home),
            "started_at": self.started_at,
            "ready": self.ready,
            "stop_s": self.stop_s,
            "processes": [child.state() for child in self.children],
        }
        if state != self.written:
            with suppress(OSError):  # on a full disk the next tick tries again
                write_state(self.home, state)
                self.written = state

    def _stop(self) -> None:
        """Stop the worker first, while the API and the broker still serve it, then the rest."""
        self._narrate("stopping: a running job saves a checkpoint first")
        for group in ([self.worker], [self.api, self.reaper, self.desk], self.brokers):
            for child in group:
                child.terminate()
            for child in group:
                self._end(child)
        _kill_children()
        remove_state(self.home)
        self._narrate("stopped")

    def _end(self, child: Child) -> None:
        deadline = time.monotonic() + child.program.grace_s
        while child.process and child.process.poll() is None:
            if time.monotonic() >= deadline or self.stop_requests > 1:
                self._narrate(f"{child.program.name} did not end in time; killed")
                break
            time.sleep(_TICK_S)
        child.end(0)


def _worker_grace_s() -> float:
    """Return a worker's grace period: the time for its engine to save a checkpoint, plus the time to store it.

    Raises:
        CommandError: TRAINYARD_STOP_GRACE_S is not a number; the worker would refuse it too.
    """
    given = os.environ.get("TRAINYARD_STOP_GRACE_S")
    try:
        return (float(given) if given else _SAVE_WITHIN_S) + _STORE_WITHIN_S
    except ValueError:
        raise CommandError(f"TRAINYARD_STOP_GRACE_S={given} is not a number of seconds.", Exit.USAGE) from None


def answers(port: int) -> bool:
    """Return whether /readyz answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _adopt_orphans() -> None:
    """Become the parent of orphaned descendants (Linux only), so that they can be stopped at the end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _reap_strangers(ours: set[int]) -> None:
    """Reap adopted processes that have ended; our own are reaped by their Child."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, 0)


def _kill_children() -> None:
    """Kill the descendants that remain after all children have ended."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    while listing.exists() and (pids := listing.read_text().split()):
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
            os.waitpid(int(pid), 0)
