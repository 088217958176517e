"""Backups: `python -m db.backup save DIR` while the service runs, `python -m db.backup restore DIR` into an empty home.

A backup is a folder: `trainyard.db`, which is SQLite whatever the service runs on, `blobs/` with what that
names, `secret`, under which the keys were made, `signing-key`, with which manifests are signed, and `backup.json`.
"""

import json
import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, func, insert, make_url, select, text

from db import health, installation, migrate, projects, references
from db.blobs import BlobStore
from db.errors import Unavailable
from db.models import Row
from db.session import Database, engine_for
from db.settings import StorageSettings

_DATABASE, _BLOBS, _TOLD = "trainyard.db", "blobs", "backup.json"
_SECRETS = ("secret", "signing-key")
_ENDINGS = ("", "-wal", "-shm", "-journal")
"""Of the files of a SQLite database."""
_ROWS_AT_ONCE = 5000
CUT = "restoring"
"""A file in a home that is being restored. While it is there nothing starts, and the restore can be run again.

It tells what is being restored, and which installation that becomes.
"""


def save(settings: StorageSettings, folder: Path) -> dict[str, Any]:
    """Write a backup of this moment; what it holds.

    The database comes first and the blobs that it names after it: those of what is deleted meanwhile are
    kept for TRAINYARD_KEEP_BLOBS_S. Blobs of a bucket are not copied: the backup is of use only with that bucket.

    Raises:
        ValueError: the folder is not empty, or a blob is not stored.
    """
    _require_empty(folder, "a backup is written into a folder of its own")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _DATABASE
    if _is_sqlite(settings.database_url):
        _copy_sqlite(settings.database_url, path)
    else:
        revision = migrate.current(settings.database_url)
        assert revision is not None, "a database without a schema has nothing to save"
        migrate.upgrade(f"sqlite:///{path}", revision)
        _copy_rows(settings.database_url, f"sqlite:///{path}")
    for secret in _SECRETS:
        if (settings.home / secret).exists():
            shutil.copy(settings.home / secret, folder / secret)
    named = _named(f"sqlite:///{path}")
    if settings.blobs is None:
        _link_blobs(named, settings.open_blobs(low_space_bytes=0), folder / _BLOBS)
    told = {
        "saved_at": time.time(),
        "revision": migrate.current(f"sqlite:///{path}"),
        "blobs": len(named),
        "blobs_in": settings.blobs or _BLOBS,
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
    target = _path(settings.database_url) if _is_sqlite(settings.database_url) else settings.home / _DATABASE
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
    _copy_to_newest(folder / _DATABASE, newest)
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
    if _is_sqlite(settings.database_url):
        newest.replace(target)
    else:
        migrate.upgrade(settings.database_url)
        _copy_rows(f"sqlite:///{newest}", settings.database_url)
    _end(newest, cut)
    return told


def _end(newest: Path, cut: Path) -> None:
    """The database is whole where it belongs: only what the restore needed on its way is left to remove."""
    _remove_database(newest)
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
        _link_blobs(named, saved, settings.blobs_dir)
        return
    bucket = settings.open_blobs(low_space_bytes=0)
    for sha256 in sorted(named):
        bucket.put_file(saved.path(sha256))


def _require_empty(folder: Path, rule: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: {rule}")


def _require_new(url: str, *, again: bool) -> None:
    """Raises ValueError: the database is there already. SQLite would apply an old log to whatever file it finds.

    Its tables alone may be there from a restore that was cut short.
    """
    if not _is_sqlite(url):
        if migrate.current(url) is not None and not (again and _is_empty(url)):
            raise ValueError("the database has tables already; create an empty one for the backup")
        return
    for ending in _ENDINGS:
        file = f"{_path(url)}{ending}"
        if Path(file).exists():
            raise ValueError(f"{file} is there already; set TRAINYARD_DATABASE_URL to a new database for the backup")


def _is_empty(url: str) -> bool:
    opened = Database(url)
    with opened.read() as s:
        there = projects.list_all(s)
    opened.close()
    return not there


def _path(url: str) -> Path:
    return Path(make_url(url).database or "")


def _is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def _copy_sqlite(url: str, target: Path) -> None:
    """One moment of a database that others write to."""
    with closing(sqlite3.connect(_path(url))) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _copy_to_newest(saved: Path, target: Path) -> None:
    """Of a SQLite database, at whatever revision, a copy at the newest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_database(target)  # of a copy that was cut short
    shutil.copy(saved, target)
    migrate.upgrade(f"sqlite:///{target}")


def _remove_database(path: Path) -> None:
    for ending in _ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _copy_rows(source_url: str, target_url: str) -> None:
    """All rows of all tables as they are at one moment, into a database of the same revision and without rows."""
    source, target = engine_for(source_url), create_engine(target_url)
    isolation = {} if _is_sqlite(source_url) else {"isolation_level": "REPEATABLE READ"}
    with source.connect().execution_options(**isolation) as reading, target.begin() as writing:
        foreign_keys = _drop_foreign_keys(writing)
        for table in Row.metadata.sorted_tables:
            rows = reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table)).mappings()
            for some in rows.partitions():
                writing.execute(insert(table), [dict(row) for row in some])
        for statement in foreign_keys:
            writing.execute(text(statement))
        _number_on(writing)
    source.dispose()
    target.dispose()


def _drop_foreign_keys(connection: Connection) -> list[str]:
    """Jobs and artifacts refer to each other, so no order of the tables would do; how to put the keys back."""
    if connection.dialect.name == "sqlite":
        return []  # they are off unless a connection asks for them
    keys = "SELECT conrelid::regclass, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    found = connection.execute(text(f"{keys} WHERE contype = 'f'")).all()
    for table, name, _ in found:
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
    return [f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" for table, name, definition in found]


def _number_on(connection: Connection) -> None:
    """Sequences go on from the highest number that was copied."""
    if connection.dialect.name == "sqlite":
        return
    for table in Row.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))


def _named(url: str) -> set[str]:
    opened = Database(url)
    with opened.read() as s:
        named = references.every(s)
    opened.close()
    return named


def _link_blobs(named: set[str], source: BlobStore, folder: Path) -> None:
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
            raise ValueError(f"{sha256} is not stored, and the database names it: see `trainyard doctor`") from error
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
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
