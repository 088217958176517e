"""The commands `trainyard up` and `trainyard down`."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from cli.errors import CommandError, Exit
from cli.home import locked, log_tail, open_log, prepare, supervisor_pid
from cli.output import print_json, say, suggest
from cli.place import DEFAULT_PORT, PACKAGES_DIR, home_dir, key_path, service_state

_START_S = 60.0
_STOP_S = 120.0
"""The default where the supervisor has not recorded how long it may take."""
_POLL_S = 0.05


def free_port(wanted: int = 0) -> int:
    """Return a free port of loopback: the wanted one, or any for 0.

    Raises:
        CommandError: the wanted port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise CommandError(
                f"Port {wanted} is taken ({error.strerror}).", mend="`trainyard up --port 0` takes a free one."
            ) from None
        return probe.getsockname()[1]


@click.command(short_help="Start the service on this machine.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    envvar="TRAINYARD_PORT",
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on loopback; 0: any free one.",
)
@click.option("--detach", is_flag=True, help="Return when the service is ready; `trainyard down` stops it.")
@click.option("--json", "as_json", is_flag=True, help="With --detach: print its address as JSON.")
def up(port: int, detach: bool, as_json: bool) -> None:
    """Start the service: API, worker, reaper, desk and broker, on loopback only.

    Everything it stores is in TRAINYARD_HOME. The API key is written to ~/.config/trainyard/credentials, or
    to the file `credentials` inside a home other than the default.
    """
    if as_json and not detach:
        raise click.UsageError("--json describes a detached service: give --detach too.")
    home = home_dir()
    prepare(home, key_path())
    if detach:
        pid, url = _detach(home, port)
        if as_json:
            print_json({"url": url, "pid": pid, "home": str(home), "key_file": str(key_path())})
        return
    # Imported late: `down` does not need it.
    from cli.supervisor import Supervisor

    with locked(home):
        supervisor = Supervisor(home, free_port(port), free_port(), key_path(), _narrate)
        supervisor.run()


def _narrate(sentence: str) -> None:
    say(sentence)
    if sentence.startswith("Trainyard runs"):
        say(f"  key: {key_path()}    state: {home_dir()}    stop: Ctrl-C or `trainyard down`")
        suggest("trainyard files upload my.jsonl")


def _detach(home: Path, port: int) -> tuple[int, str]:
    """Start the supervisor in its own session, wait until it is ready, and return its process id and address."""
    holder = supervisor_pid(home)
    if holder is not None:
        raise CommandError(
            f"The service already runs from {home} (pid {holder}).",
            mend="`trainyard status` shows it, `trainyard down` stops it.",
        )
    log = open_log(home, "up")
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PACKAGES_DIR,
            env={**os.environ, "TRAINYARD_HOME": str(home), "TRAINYARD_CONFIG": str(key_path())},
            start_new_session=True,
        )
    finally:
        os.close(log)
    url = wait_ready(home, process)
    say(f"Trainyard runs at {url} (pid {process.pid})")
    say(f"  key: {key_path()}    state: {home}    stop: `trainyard down`")
    suggest("trainyard files upload my.jsonl")
    return process.pid, url


def wait_ready(home: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the supervisor started as `process` is ready, and return its address.

    Raises:
        CommandError: it ended, or took more than a minute.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        state = service_state(home)
        if state is not None and state["pid"] == process.pid and state["ready"]:
            return state["url"]
        if process.poll() is not None:
            raise CommandError(f"The service did not start:\n{log_tail(home, 'up')}")
        time.sleep(_POLL_S)
    process.terminate()
    raise CommandError(f"The service was not ready after {_START_S:.0f} s:\n{log_tail(home, 'api')}", Exit.TIMED_OUT)


def stop_within_s(home: Path) -> float:
    """Return how long the supervisor of a home may take to stop. Read this before stopping it."""
    return float((service_state(home) or {}).get("stop_s", _STOP_S))


@click.command(short_help="Stop the service on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def down(as_json: bool) -> None:
    """Stop the service of TRAINYARD_HOME. A running job saves a checkpoint and resumes at the next `up`."""
    home = home_dir()
    pid = supervisor_pid(home)
    if pid is None:
        say(f"Nothing runs from {home}.")
        suggest("trainyard up")
        if as_json:
            print_json({"home": str(home), "stopped": None})
        return
    patience_s = stop_within_s(home)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while supervisor_pid(home) is not None:
        if time.monotonic() >= deadline:
            raise CommandError(
                f"Process {pid} has not ended after {patience_s:.0f} s.", Exit.TIMED_OUT, f"kill -9 {pid}"
            )
        time.sleep(_POLL_S)
    say("stopped")
    suggest("trainyard up")
    if as_json:
        print_json({"home": str(home), "stopped": pid})
