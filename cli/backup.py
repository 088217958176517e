"""`trainyard backup` and `trainyard restore`: everything that the service keeps, saved while it runs."""

import os
import subprocess
import sys
from pathlib import Path

import click

from cli.errors import CommandError
from cli.output import print_json, say, suggest
from cli.place import PACKAGES_DIR, home_dir

_Folder = click.Path(file_okay=False, path_type=Path, resolve_path=True)


@click.command()
@click.argument("folder", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(folder: Path, as_json: bool) -> None:
    """Save database, stored files and secret into FOLDER, a new or empty one; the service goes on meanwhile.

    Stored files are hard links where FOLDER is on the same disk. Those in a bucket are not copied: to restore
    needs that bucket, with the files still in it. Neither is a secret that TRAINYARD_SECRET tells: to restore needs
    the same. Whoever can read the backup can read all projects.
    """
    _tell(of_storage("db.backup", "save", str(folder)), folder, as_json=as_json)
    suggest(f"TRAINYARD_HOME=/another/home trainyard restore {folder}")


@click.command()
@click.argument("folder", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(folder: Path, as_json: bool) -> None:
    """Bring a backup from FOLDER into TRAINYARD_HOME, which has to be empty, and a new database.

    Jobs that ran go on from there.
    """
    _tell(of_storage("db.backup", "restore", str(folder)), folder, as_json=as_json)
    suggest("trainyard up")


def _tell(told: str, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), "told": told})
    else:
        say(told)


def of_storage(module: str, *arguments: str) -> str:
    """What a program that opens the storage of TRAINYARD_HOME answers.

    Raises:
        CommandError: it failed; what it said is the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=PACKAGES_DIR,
        env={**os.environ, "TRAINYARD_HOME": str(home_dir())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError((done.stdout + done.stderr).strip())
    return done.stdout.strip()
