"""`python -m api.bootstrap --key-file PATH`: migrate the database, and make a project and a first key."""

import argparse
import os
import sys
from pathlib import Path

from api.manifest_signing import Signer
from api.private import write_private
from api.settings import ApiSettings, make_secret
from db import keys, migrate, projects, references
from db.backup import CUT
from db.blobs import has_stored
from db.scopes import Scope
from db.session import Database
from db.settings import StorageSettings

PROJECT = "default"


_IN_USE = "initialised"
"""The marker that `trainyard up` leaves in a home that has a database (cli.home)."""


def main() -> None:
    """Prepare everything that the API needs to start. Running it again changes nothing that is already in place."""
    parser = argparse.ArgumentParser(prog="python -m api.bootstrap", description=__doc__)
    parser.add_argument(
        "--key-file", type=Path, required=True, help="the file that the key is written to, with mode 0600"
    )
    arguments = parser.parse_args()
    try:
        bootstrap(ApiSettings(), StorageSettings(), arguments.key_file)
    except ValueError as error:
        sys.exit(str(error))


def bootstrap(settings: ApiSettings, storage: StorageSettings, key_file: Path) -> None:
    """Migrate, and make the project and a key unless the key file holds one that works.

    Raises:
        ValueError: something that was there before is missing; the message says how to mend that.
    """
    if (storage.home / CUT).exists():
        raise ValueError(f"a restore into {storage.home} was cut short: run `trainyard restore` again")
    storage.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if migrate.current(storage.database_url) is None:
        _require_unused(storage)
    migrate.upgrade(storage.database_url)
    database = Database(storage.database_url)
    try:
        _require_home(database, settings, storage)
        secret = make_secret(settings, storage.home)
        Signer(storage.home).make()
        with database.write() as session:
            project = projects.by_name(session, PROJECT) or projects.create(session, PROJECT)
            token = key_file.read_text().strip() if key_file.exists() else ""
            if token and keys.authenticate(session, token, secret):
                return
            _, token = keys.create(session, project.id, "first", secret, scope=Scope.OPERATOR)
            write_private(key_file, token + "\n")  # before the commit: a key whose token cannot be saved is not made
    finally:
        database.close()


def _require_unused(storage: StorageSettings) -> None:
    """Check, before anything is made in an empty database, that the home has not been in use with another one.

    Raises:
        ValueError: the home has been in use.
    """
    used = storage.home / _IN_USE
    if used.exists() or has_stored(storage.blobs_dir):
        raise ValueError(
            f"{storage.home} has been in use, and the database is empty. Is its disk not mounted, or does "
            "TRAINYARD_DATABASE_URL name another one? Bring it back with `trainyard restore` into an empty home, "
            f"or move {storage.blobs_dir} and {used} away to start afresh"
        )


def _require_home(database: Database, settings: ApiSettings, storage: StorageSettings) -> None:
    """Check that a database in use has its secret and its blobs, so that a lost disk does not pass for a new one.

    Raises:
        ValueError: the secret or the blobs are missing.
    """
    with database.read() as session:
        has_keys, names_blobs = keys.any_made(session), references.any_named(session)
    secret = storage.home / "secret"
    if has_keys and settings.secret is None and not secret.exists():
        raise ValueError(
            f"the database has keys, and {secret}, under which they were made, is not there. Is a disk not mounted? "
            "Bring it back from a backup, or set TRAINYARD_SECRET to it; with any other secret, no key works"
        )
    if has_keys and settings.secret is not None and secret.exists():
        _require_same(settings.secret.get_secret_value(), secret)
    folder = storage.blobs_dir
    if names_blobs and storage.blobs is None and not has_stored(folder):
        raise ValueError(
            f"the database names stored files, and {folder} holds none. Is a disk not mounted? "
            f"If they are lost for good, make the folder {folder / '00'} to start without them"
        )


def _require_same(given: str, secret: Path) -> None:
    """Raise ValueError when the environment's secret differs from the home's, under which its keys were made."""
    if given.strip() != secret.read_text().strip():
        raise ValueError(
            f"TRAINYARD_SECRET differs from {secret}, under which keys were made that would stop working: "
            f"unset it; or, if it is the right one, move {secret} away"
        )


if __name__ == "__main__":
    os.umask(0o077)
    main()
