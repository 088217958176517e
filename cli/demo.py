"""The command `trainyard demo`: start a service, make and tune a model through it, and stop it again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.client import Client
from cli.errors import CommandError
from cli.home import open_log, prepare, supervisor_pid
from cli.output import say
from cli.place import PACKAGES_DIR, api_key
from cli.tied import tie_to_parent
from cli.up import stop_within_s, wait_ready

_FOLDER = click.Path(file_okay=False, path_type=Path)
_MARK = "made-by-demo"


@click.command(short_help="Train, tune and evaluate a small model.")
@click.option(
    "--home", type=_FOLDER, default=Path(".demo"), show_default=True, help="The service's folder; emptied first."
)
@click.option("-o", "--output", type=_FOLDER, default=Path("demo-out"), show_default=True, help="Where results go.")
@click.option(
    "--examples", type=_FOLDER, default=PACKAGES_DIR / "examples", help="Data and specs; default: the clone's."
)
@click.option("--keep", is_flag=True, help="Leave the service running afterwards.")
def demo(home: Path, output: Path, examples: Path, keep: bool) -> None:
    """Upload data, pretrain a small model, tune an adapter, evaluate both and pull them, all through a service."""
    # Imported late: `trainyard --help` does not need it.
    from cli.tour import tour

    if not (examples / "pretrain.yaml").is_file():
        raise CommandError(
            f"{examples} holds no examples.", mend="Run the demo from a clone, or name its examples/ with --examples."
        )
    home = home.absolute()
    started = time.monotonic()
    with _service(home, keep=keep) as client:
        say(f"  watch it in a browser: {client.url}/#key={api_key()}")
        tour(client, examples, output, started)
    if keep:
        say(f"\nThe service is still up at {client.url}. To use it:")
        say(f"  export TRAINYARD_HOME={home} TRAINYARD_CONFIG={home / 'credentials'}")
        say("  trainyard jobs ls        # and `trainyard down` stops it")


@contextmanager
def _service(home: Path, *, keep: bool) -> Iterator[Client]:
    """Run a separate service in an empty folder, on a free port; it stops at the end, even if the demo is killed."""
    _empty(home)
    _forget_settings(home)
    prepare(home, home / "credentials")
    say("Starting the service: API, worker, reaper, desk, broker ...")
    log = open_log(home, "up")
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.demo", str(os.getpid()), "keep" if keep else "tied"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PACKAGES_DIR,
            start_new_session=True,
        )
    finally:
        os.close(log)
    try:
        yield Client(wait_ready(home, process))
    except BaseException:
        _stop(home, process)
        raise
    if not keep:
        _stop(home, process)


def _empty(home: Path) -> None:
    """Remove the results of an earlier demo.

    Raises:
        CommandError: the service of an earlier demo still runs, or the folder is not a demo's.
    """
    if not home.exists():
        home.mkdir(parents=True, mode=0o700)
    elif not (home / _MARK).exists() and any(home.iterdir()):
        raise CommandError(f"{home} was not made by the demo; it is left alone.", mend="Give another --home.")
    elif supervisor_pid(home) is not None:
        raise CommandError(
            f"The service of an earlier demo still runs from {home}.", mend=f"TRAINYARD_HOME={home} trainyard down"
        )
    else:
        shutil.rmtree(home)
        home.mkdir(mode=0o700)
    (home / _MARK).touch()


def _forget_settings(home: Path) -> None:
    """Drop the settings that the operator made for another service, such as a bucket or an address."""
    for name in [name for name in os.environ if name.startswith("TRAINYARD_")]:
        del os.environ[name]
    os.environ["TRAINYARD_HOME"] = str(home)
    os.environ["TRAINYARD_CONFIG"] = str(home / "credentials")


def _stop(home: Path, process: subprocess.Popen[bytes]) -> None:
    patience_s = stop_within_s(home)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise CommandError(f"The service did not stop within {patience_s:.0f} s and was killed.") from None


def _run_service(parent_pid: int, *, tied: bool) -> int:
    """Run `trainyard up` as the demo's supervisor; it gets SIGTERM when the demo's own process ends."""
    # Imported late: the demo's own process does not need it.
    from cli.main import main

    if tied:
        tie_to_parent(parent_pid, signal.SIGTERM)
    return main(["up", "--port", "0"])


if __name__ == "__main__":
    sys.exit(_run_service(int(sys.argv[1]), tied=sys.argv[2] == "tied"))
