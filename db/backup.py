"""Backups: `python -m db.backup save DIR` while the service runs, `python -m db.backup restore DIR` into an empty home.

A backup is a folder of `trainyard.db`, which is SQLite whatever database the service uses; `blobs/`, the stored files
that it refers to; `secret`, under which the keys are hashed (unless TRAINYARD_SECRET holds it); `signing-key`, with
which manifests are signed; and `backup.json`.
"""

import json
import os
import shutil
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from db import copies, health, installation, migrate, projects, references
from db.blobs import BlobStore
from db.errors import Unavailable
from db.session import Database
from db.settings import StorageSettings

_DATABASE, _BLOBS, _SUMMARY = "trainyard.db", "blobs", "backup.json"
_UNFINISHED = "backup.json.part"
"""A file in a folder whose backup is not complete yet. It becomes the summary at the end."""
_SECRETS = ("secret", "signing-key")
_LOST_FOUND = "lost+found"
"""A folder that a new file system has from the beginning."""
_DELETED_MEANWHILE = (
    "see `trainyard doctor`; or, if it was deleted while the others were saved, have TRAINYARD_KEEP_BLOBS_S of the "
    "service be more than the seconds that a backup takes"
)
CUT = "restoring"
"""A file in a home that is being restored. While it exists nothing starts, and the restore can be run again.

It records what is being restored, and the id of the new installation.
"""


def save(settings: StorageSettings, folder: Path) -> dict[str, Any]:
    """Write a backup of the current state, and return its summary.

    The database is copied first and then the blobs that it refers to; those that are deleted meanwhile are kept for
    TRAINYARD_KEEP_BLOBS_S. Blobs in a bucket are not copied: the backup is usable only with that bucket.

    Raises:
        ValueError: the folder is not empty, there is nothing to save, or a blob is not stored.
    """
    _require_begun(settings)
    if (folder / _UNFINISHED).exists():
        mend = "remove it, or name another folder"
        raise ValueError(f"{folder} holds a backup that was interrupted, or is still running: {mend}")
    _require_empty(folder, "a backup is written into a folder of its own")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / _UNFINISHED).touch()
    path = folder / _DATABASE
    if copies.is_sqlite(settings.database_url):
        copies.copy_file(settings.database_url, path)
    else:
        revision = migrate.current(settings.database_url)
        assert revision is not None, "_require_begun has checked it"
        migrate.upgrade(f"sqlite:///{path}", revision)
        copies.copy_rows(settings.database_url, f"sqlite:///{path}")
    for secret in _SECRETS:
        if (settings.home / secret).exists():
            shutil.copy(settings.home / secret, folder / secret)
    named = _named(f"sqlite:///{path}")
    if settings.blobs is None:
        _link_blobs(named, settings.open_blobs(low_space_bytes=0), folder / _BLOBS, _DELETED_MEANWHILE)
    summary = {
        "saved_at": time.time(),
        "revision": migrate.current(f"sqlite:///{path}"),
        "blobs": len(named),
        "blobs_in": settings.blobs or _BLOBS,
        "secret": (folder / "secret").exists(),
    }
    os.sync()
    (folder / _UNFINISHED).write_text(json.dumps(summary, indent=1))
    (folder / _UNFINISHED).replace(folder / _SUMMARY)  # comes last: it marks the backup as complete
    return summary


def restore(settings: StorageSettings, folder: Path) -> dict[str, Any]:
    """Restore a backup, upgraded to the newest schema, and return its summary. The reaper requeues its running jobs.

    An interrupted restore leaves a home that does not start, and can be run again: it then starts over, unless the
    database was already restored completely.

    Raises:
        ValueError: the folder holds no backup, its files are in another bucket than the service's, or the home or the
            database is in use.
    """
    if not (folder / _SUMMARY).exists():
        raise ValueError(f"{folder} holds no finished backup: there is no {_SUMMARY}")
    summary = json.loads((folder / _SUMMARY).read_text())
    cut = settings.home / CUT
    in_file = copies.is_sqlite(settings.database_url)
    target = copies.path_of(settings.database_url) if in_file else settings.home / _DATABASE
    newest = target.with_name(f"{target.name}.part")
    _require_store(settings, summary["blobs_in"], folder)
    if not cut.exists():
        _require_empty(settings.home, "a backup is restored into an empty home; set TRAINYARD_HOME to another")
    elif cut.read_text() == _mark(_name_of(settings.database_url), summary):
        _end(newest, cut)
        return summary
    _require_new(settings.database_url, again=cut.exists())
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    cut.touch(mode=0o600)
    # The database is put in place last: once it is there, nothing else may be missing.
    copies.copy_to_newest(folder / _DATABASE, newest)
    saved_id, new_id = _rename(newest)
    cut.write_text(_mark(new_id, summary))
    for secret in _SECRETS:
        if (folder / secret).exists():
            shutil.copy(folder / secret, settings.home / secret)
    if summary["blobs_in"] == _BLOBS:
        _restore_blobs(settings, BlobStore(folder / _BLOBS, low_space_bytes=0), _named(f"sqlite:///{newest}"))
    else:
        settings.open_blobs(low_space_bytes=0).claim(saved_id)  # the installation that was saved may still run
    os.sync()
    if in_file:
        newest.replace(target)
    else:
        migrate.upgrade(settings.database_url)
        copies.copy_rows(f"sqlite:///{newest}", settings.database_url)
    _end(newest, cut)
    return summary


def _end(newest: Path, cut: Path) -> None:
    """Remove the temporary files of a restore whose database is in place."""
    copies.remove(newest)
    cut.unlink()
    os.sync()


def _mark(name: str | None, summary: dict[str, Any]) -> str:
    return json.dumps({"installation": name, **summary})


def _name_of(url: str) -> str | None:
    """Return the installation id of a database, if it has one, without changing the database."""
    if not health.begun(url) or migrate.current(url) != migrate.head():
        return None
    opened = Database(url)
    with opened.read() as s:
        name = installation.known_id(s)
    opened.close()
    return name


def _rename(path: Path) -> tuple[str, str]:
    """Give a saved database a new installation id; return the old and the new one."""
    opened = Database(f"sqlite:///{path}")
    with opened.write() as s:
        names = installation.forget(s), installation.own_id(s)
    opened.close()
    return names


def _require_store(settings: StorageSettings, saved: str, folder: Path) -> None:
    """Check that files which a backup left in a bucket are in the bucket of the settings; raises ValueError if not."""
    if saved != _BLOBS and (settings.blobs or "").rstrip("/") != saved.rstrip("/"):
        raise ValueError(
            f"the stored files of this backup are in {saved}, and the service to be restored looks for them in "
            f"{settings.blobs or settings.blobs_dir}: set TRAINYARD_BLOBS={saved}; or, if that bucket was copied, name "
            f"the copy as TRAINYARD_BLOBS and as `blobs_in` of {folder / _SUMMARY}"
        )


def _restore_blobs(settings: StorageSettings, saved: BlobStore, named: set[str]) -> None:
    if settings.blobs is None:
        _link_blobs(named, saved, settings.blobs_dir, "the backup is damaged")
        return
    bucket = settings.open_blobs(low_space_bytes=0)
    for sha256 in sorted(named):
        bucket.put_file(saved.path(sha256))


def _require_begun(settings: StorageSettings) -> None:
    """Check, before SQLite would create its file, that there is a database with tables; raises ValueError if not."""
    if not health.begun(settings.database_url):
        raise ValueError(
            f"there is nothing to save: the database of {settings.home} is empty or not there. Is its disk not "
            "mounted, or is TRAINYARD_HOME or TRAINYARD_DATABASE_URL another one?"
        )


def _require_empty(folder: Path, rule: str) -> None:
    if folder.exists() and any(path.name != _LOST_FOUND for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty: {rule}")


def _require_new(url: str, *, again: bool) -> None:
    """Check that there is no database yet; raises ValueError if there is. SQLite would apply an old log to a new file.

    Empty tables may exist from an interrupted restore.
    """
    if not copies.is_sqlite(url):
        if migrate.current(url) is not None and not (again and _is_empty(url)):
            raise ValueError("the database has tables already; create an empty one for the backup")
        return
    for ending in copies.ENDINGS:
        file = f"{copies.path_of(url)}{ending}"
        if Path(file).exists():
            raise ValueError(f"{file} is there already; set TRAINYARD_DATABASE_URL to a new database for the backup")


def _is_empty(url: str) -> bool:
    opened = Database(url)
    with opened.read() as s:
        there = projects.list_all(s)
    opened.close()
    return not there


def _named(url: str) -> set[str]:
    opened = Database(url)
    with opened.read() as s:
        named = references.every(s)
    opened.close()
    return named


def _link_blobs(named: set[str], source: BlobStore, folder: Path, mend: str) -> None:
    """Copy blobs into a local store, by hard links where possible.

    Raises:
        ValueError: one of them is not stored.
        BlobsUnavailable: the source cannot be reached, or has no blobs at all.
    """
    target = BlobStore(folder, low_space_bytes=0)
    for sha256 in sorted(named):
        path = target.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = target.root / "tmp" / sha256
        part.unlink(missing_ok=True)
        try:
            source.link_to(sha256, part)
        except FileNotFoundError as error:
            raise ValueError(f"{sha256} is not stored, and the database names it: {mend}") from error
        part.replace(path)
        part.unlink(missing_ok=True)  # rename leaves it if both are the same file


def main(arguments: list[str]) -> int:
    """Save or restore, and print what was done."""
    try:
        match arguments:
            case ["save", folder]:
                summary, verb = save(StorageSettings(), Path(folder).absolute()), "saved in"
            case ["restore", folder]:
                summary, verb = restore(StorageSettings(), Path(folder).absolute()), "restored from"
            case _:
                sys.exit("usage: python -m db.backup save DIR | restore DIR")
    except (ValueError, Unavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (OSError, sqlite3.Error, DBAPIError) as error:
        done = "written" if arguments[0] == "save" else "restored"
        reason = error.orig if isinstance(error, DBAPIError) else error
        sys.stderr.write(f"{arguments[1]} could not be {done}: {reason}\n")
        return 1
    if summary["blobs_in"] == _BLOBS:
        sys.stdout.write(f"the database and the {summary['blobs']} stored files that it names are {verb} {folder}\n")
    else:
        stay = f"the {summary['blobs']} stored files that it names stay in {summary['blobs_in']} and are not copied"
        sys.stdout.write(f"the database is {verb} {folder}; {stay}\n")
    if not summary.get("secret", True):  # backups of older releases have no such key
        kept = "the secret of its keys is not in the backup: where it is restored, TRAINYARD_SECRET has to be the same"
        sys.stdout.write(f"{kept}\n")
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
