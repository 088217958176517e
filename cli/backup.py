"""`trainyard backup` and `trainyard restore`: everything that the service keeps, saved while it runs."""

import os
import subprocess
import sys
from pathlib import Path

import click

from cli.errors import CommandError
from cli.output import say
from cli.place import PACKAGES_DIR, home_dir

_Folder = click.Path(file_okay=False, path_type=Path, resolve_path=True)


@click.command()
@click.argument("folder", type=_Folder)
def backup(folder: Path) -> None:
    """Save database, stored files and secret into FOLDER, a new or empty one; the service goes on meanwhile.

    Stored files are hard links where FOLDER is on the same disk. Those in a bucket are not copied: to restore
    needs that bucket, with the files still in it. Whoever can read the backup can read all projects.
    """
    say(of_storage("db.backup", "save", str(folder)))
    say(f"  next: TRAINYARD_HOME=/another/home trainyard restore {folder}")


@click.command()
@click.argument("folder", type=_Folder)
def restore(folder: Path) -> None:
    """Bring a backup from FOLDER into TRAINYARD_HOME, which has to be empty, and a new database.

    Jobs that ran go on from there.
    """
    say(of_storage("db.backup", "restore", str(folder)))
    say("  next: trainyard up")


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
