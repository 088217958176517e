"""Copies of whole databases: those of SQLite as a file, others row by row."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, create_engine, func, insert, make_url, select, text

from db import migrate
from db.models import Row
from db.session import engine_for

ENDINGS = ("", "-wal", "-shm", "-journal")
"""The suffixes of the files of a SQLite database."""
_ROWS_AT_ONCE = 5000


def path_of(url: str) -> Path:
    """Return the file of a SQLite database."""
    return Path(make_url(url).database or "")


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def copy_file(url: str, target: Path) -> None:
    """Copy a consistent snapshot of a SQLite database that other processes may be writing to."""
    with closing(sqlite3.connect(path_of(url))) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def copy_to_newest(saved: Path, target: Path) -> None:
    """Copy a SQLite database of any revision, and upgrade the copy to the newest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)  # left by an interrupted copy
    shutil.copy(saved, target)
    migrate.upgrade(f"sqlite:///{target}")


def remove(path: Path) -> None:
    for ending in ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def copy_rows(source_url: str, target_url: str) -> None:
    """Copy a consistent snapshot of all rows of all tables into an empty database of the same revision."""
    source, target = engine_for(source_url), create_engine(target_url)
    isolation = {} if is_sqlite(source_url) else {"isolation_level": "REPEATABLE READ"}
    with source.connect().execution_options(**isolation) as reading, target.begin() as writing:
        foreign_keys = _drop_foreign_keys(writing)
        for table in Row.metadata.sorted_tables:
            rows = reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table)).mappings()
            for batch in rows.partitions():
                writing.execute(insert(table), [dict(row) for row in batch])
        for statement in foreign_keys:
            writing.execute(text(statement))
        _advance_sequences(writing)
    source.dispose()
    target.dispose()


def _drop_foreign_keys(connection: Connection) -> list[str]:
    """Drop all foreign keys, since jobs and artifacts refer to each other; return the statements that restore them."""
    if connection.dialect.name == "sqlite":
        return []  # they are off unless a connection turns them on
    keys = "SELECT conrelid::regclass, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    found = connection.execute(text(f"{keys} WHERE contype = 'f'")).all()
    for table, name, _ in found:
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
    return [f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" for table, name, definition in found]


def _advance_sequences(connection: Connection) -> None:
    """Set each sequence to the highest number that was copied."""
    if connection.dialect.name == "sqlite":
        return
    for table in Row.metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            connection.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))
