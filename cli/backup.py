"""The commands `trainyard backup` and `trainyard restore`: everything that the service keeps."""

import os
import subprocess
import sys
from pathlib import Path

import click

from cli.errors import CommandError
from cli.output import print_json, say, suggest
from cli.place import PACKAGES_DIR, home_dir

_Folder = click.Path(file_okay=False, path_type=Path, resolve_path=True)


@click.command(short_help="Save database, files and secret.")
@click.argument("folder", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(folder: Path, as_json: bool) -> None:
    """Save the database, stored files and secret into FOLDER, which is new or empty, while the service runs.

    Stored files are hard links where FOLDER is on the same disk. Files in a bucket are not copied: a restore
    needs that bucket with the files still in it. A secret set by TRAINYARD_SECRET is not copied either: a
    restore needs the same one. Anyone who can read the backup can read all projects.
    """
    _report(run_storage_command("db.backup", "save", str(folder)), folder, as_json=as_json)
    suggest(f"TRAINYARD_HOME=/another/home trainyard restore {folder}")


@click.command(short_help="Restore a backup into an empty home.")
@click.argument("folder", type=_Folder)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(folder: Path, as_json: bool) -> None:
    """Restore a backup from FOLDER into TRAINYARD_HOME, which must be empty, and a new database.

    Jobs that were running resume from the state in the backup.
    """
    _report(run_storage_command("db.backup", "restore", str(folder)), folder, as_json=as_json)
    suggest("trainyard up")


def _report(message: str, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), "message": message})
    else:
        say(message)


def run_storage_command(module: str, *arguments: str) -> str:
    """Run a Python module on the storage of TRAINYARD_HOME, in its own process, and return what it printed.

    Raises:
        CommandError: it failed; its output is the message.
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
