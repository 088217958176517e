"""Backups: `python -m db.backup save DIR` while the service runs, `python -m db.backup restore DIR` into an empty home.

A backup is a folder: `trainyard.db`, which is SQLite whatever the service runs on, `blobs/` with what that
names, `secret`, under which the keys were made (unless TRAINYARD_SECRET tells it), `signing-key`, with which manifests
are signed, and `backup.json`.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from db import copies, health, installation, migrate, projects, references
from db.blobs import BlobStore
from db.errors import Unavailable
from db.session import Database
from db.settings import StorageSettings

_DATABASE, _BLOBS, _TOLD = "trainyard.db", "blobs", "backup.json"
_SECRETS = ("secret", "signing-key")
_OF_A_DISK = "lost+found"
"""A disk's own folder, which it has from the beginning."""
_DELETED_MEANWHILE = (
    "see `trainyard doctor`; or, if it was deleted while the others were saved, have TRAINYARD_KEEP_BLOBS_S of the "
    "service be more than the seconds that a backup takes"
)
CUT = "restoring"
"""A file in a home that is being restored. While it is there nothing starts, and the restore can be run again.

It tells what is being restored, and which installation that becomes.
"""


def save(settings: StorageSettings, folder: Path) -> dict[str, Any]:
    """Write a backup of this moment; what it holds.

    The database comes first and the blobs that it names after it: those of what is deleted meanwhile are
    kept for TRAINYARD_KEEP_BLOBS_S. Blobs of a bucket are not copied: the backup is of use only with that bucket.

    Raises:
        ValueError: the folder is not empty, there is nothing to save, or a blob is not stored.
    """
    _require_begun(settings)
    _require_empty(folder, "a backup is written into a folder of its own")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _DATABASE
    if copies.is_sqlite(settings.database_url):
        copies.copy_file(settings.database_url, path)
    else:
        revision = migrate.current(settings.database_url)
        assert revision is not None, "it was looked at first"
        migrate.upgrade(f"sqlite:///{path}", revision)
        copies.copy_rows(settings.database_url, f"sqlite:///{path}")
    for secret in _SECRETS:
        if (settings.home / secret).exists():
            shutil.copy(settings.home / secret, folder / secret)
    named = _named(f"sqlite:///{path}")
    if settings.blobs is None:
        _link_blobs(named, settings.open_blobs(low_space_bytes=0), folder / _BLOBS, _DELETED_MEANWHILE)
    told = {
        "saved_at": time.time(),
        "revision": migrate.current(f"sqlite:///{path}"),
        "blobs": len(named),
        "blobs_in": settings.blobs or _BLOBS,
        "secret": (folder / "secret").exists(),
    }
    os.sync()
    (folder / _TOLD).write_text(json.dumps(told, indent=1))  # the last: with it the backup is complete
    return told


def restore(settings: StorageSettings, folder: Path) -> dict[str, Any]:
    """Bring a backup back, to the newest schema; what it held. Jobs that ran then are queued again by the reaper.

    One that is cut short leaves a home that does not start, and can be run again: it then begins anew, unless the
    database was brought back whole.

    Raises:
        ValueError: the folder holds no backup, or the home or the database is in use.
    """
    if not (folder / _TOLD).exists():
        raise ValueError(f"{folder} holds no finished backup: there is no {_TOLD}")
    told = json.loads((folder / _TOLD).read_text())
    cut = settings.home / CUT
    in_file = copies.is_sqlite(settings.database_url)
    target = copies.path_of(settings.database_url) if in_file else settings.home / _DATABASE
    newest = target.with_name(f"{target.name}.part")
    if not cut.exists():
        _require_empty(settings.home, "a backup is restored into an empty home; set TRAINYARD_HOME to another")
    elif cut.read_text() == _mark(_name_of(settings.database_url), told):
        _end(newest, cut)
        return told
    _require_new(settings.database_url, again=cut.exists())
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    cut.touch(mode=0o600)
    # The database last: without it the rest is nothing, and with it nothing may be missing.
    copies.copy_to_newest(folder / _DATABASE, newest)
    saved_id, new_id = _rename(newest)
    cut.write_text(_mark(new_id, told))
    for secret in _SECRETS:
        if (folder / secret).exists():
            shutil.copy(folder / secret, settings.home / secret)
    if told["blobs_in"] == _BLOBS:
        _bring_back_blobs(settings, BlobStore(folder / _BLOBS, low_space_bytes=0), _named(f"sqlite:///{newest}"))
    elif _is_bucket(settings.blobs, told["blobs_in"]):
        settings.open_blobs(low_space_bytes=0).claim(saved_id)  # the one that was saved may be alive
    os.sync()
    if in_file:
        newest.replace(target)
    else:
        migrate.upgrade(settings.database_url)
        copies.copy_rows(f"sqlite:///{newest}", settings.database_url)
    _end(newest, cut)
    return told


def _end(newest: Path, cut: Path) -> None:
    """The database is whole where it belongs: only what the restore needed on its way is left to remove."""
    copies.remove(newest)
    cut.unlink()
    os.sync()


def _mark(name: str | None, told: dict[str, Any]) -> str:
    return json.dumps({"installation": name, **told})


def _name_of(url: str) -> str | None:
    """Which installation the database is, if it is one; it is not changed by that."""
    if not health.begun(url) or migrate.current(url) != migrate.head():
        return None
    opened = Database(url)
    with opened.read() as s:
        name = installation.known_id(s)
    opened.close()
    return name


def _rename(path: Path) -> tuple[str, str]:
    """Which installation a saved database was, and which it is now: where it is restored it is another."""
    opened = Database(f"sqlite:///{path}")
    with opened.write() as s:
        names = installation.forget(s), installation.own_id(s)
    opened.close()
    return names


def _is_bucket(url: str | None, saved: str) -> bool:
    return url is not None and url.rstrip("/") == saved.rstrip("/")


def _bring_back_blobs(settings: StorageSettings, saved: BlobStore, named: set[str]) -> None:
    if settings.blobs is None:
        _link_blobs(named, saved, settings.blobs_dir, "the backup is damaged")
        return
    bucket = settings.open_blobs(low_space_bytes=0)
    for sha256 in sorted(named):
        bucket.put_file(saved.path(sha256))


def _require_begun(settings: StorageSettings) -> None:
    """Raises ValueError: there is no database, or it has no tables. Looked at before SQLite would make its file."""
    if not health.begun(settings.database_url):
        raise ValueError(
            f"there is nothing to save: the database of {settings.home} is empty or not there. Is its disk not "
            "mounted, or is TRAINYARD_HOME or TRAINYARD_DATABASE_URL another one?"
        )


def _require_empty(folder: Path, rule: str) -> None:
    if folder.exists() and any(path.name != _OF_A_DISK for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty: {rule}")


def _require_new(url: str, *, again: bool) -> None:
    """Raises ValueError: the database is there already. SQLite would apply an old log to whatever file it finds.

    Its tables alone may be there from a restore that was cut short.
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
    """Lay blobs out as a local store does, by hard links where that can be.

    Raises:
        ValueError: one of them is not stored.
        BlobsUnavailable: the store is away, or none is.
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
        part.unlink(missing_ok=True)  # it stays where both are one file already


def main(arguments: list[str]) -> int:
    """Save or restore; what was done, in one sentence."""
    try:
        match arguments:
            case ["save", folder]:
                told, verb = save(StorageSettings(), Path(folder).absolute()), "saved in"
            case ["restore", folder]:
                told, verb = restore(StorageSettings(), Path(folder).absolute()), "restored from"
            case _:
                sys.exit("usage: python -m db.backup save DIR | restore DIR")
    except (ValueError, Unavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if told["blobs_in"] == _BLOBS:
        sys.stdout.write(f"the database and the {told['blobs']} stored files that it names are {verb} {folder}\n")
    else:
        stay = f"the {told['blobs']} stored files that it names stay in {told['blobs_in']} and are not copied"
        sys.stdout.write(f"the database is {verb} {folder}; {stay}\n")
    if not told.get("secret", True):  # those of older releases do not say
        kept = "the secret of its keys is not in the backup: where it is restored, TRAINYARD_SECRET has to be the same"
        sys.stdout.write(f"{kept}\n")
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
