"""Database sessions: reads that see one snapshot, and writes that are committed whole or not at all."""

import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from db.errors import DatabaseFull, Unavailable, UnstorableText

_LOCK_TIMEOUT_S = 30.0
"""How long a statement waits for a lock that another connection holds, on either database."""
_IDLE_S = 60.0
_CONNECTION_OPTIONS = {
    "connect_timeout": 5,
    # A host that goes silent without closing its connections is noticed after 14 s where an answer is awaited, and
    # after 15 s where what was sent is not acknowledged; by the system's defaults it takes from 15 minutes to 2 hours.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Options of libpq; those of TCP have no effect on a Unix socket. A URL that sets one of them keeps its own value."""
_SCHEMA_BEHIND = {"42P01": "has no such table until it is migrated", "42703": "has no such column until it is migrated"}
_READ_FAILURES = {"25P03": "did not wait for the end of a transaction"} | _SCHEMA_BEHIND
_WRITE_FAILURES = {"25006": "takes no writes now"} | _READ_FAILURES
"""SQLSTATEs that are an outage rather than a bug of this program, with what the message says of each."""
_TEXT_REFUSALS = frozenset({None, "22021", "22P05"})
"""SQLSTATEs of text that PostgreSQL cannot hold; psycopg itself refuses a NUL, without one."""
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""An escaped NUL in JSON. The backslashes before it must be even in number, or the last one escapes its own."""
_POOL_SIZE = 10
_POOL_OVERFLOW = 10

__all__ = ["Database", "Session", "engine_for"]


class Database:
    """The connections of one process to one database.

    Create it after a fork, never before: connections do not survive one. A thread that is inside
    `write` must not enter it again, and should wait for nothing but the database in there.
    PostgreSQL rolls back a transaction, and frees its locks, when its process has sent no statement for `idle_s`.
    """

    def __init__(self, url: str, *, idle_s: float | None = _IDLE_S) -> None:
        engine = engine_for(url, idle_s)
        self.url = url
        self.dialect = engine.dialect.name
        self._engine = engine
        # SQLite lets one connection write at a time. A lock in this process is fair and wakes its next
        # holder at once; SQLite's own lock is polled, and is left to the writers of other processes.
        self._writer = threading.Lock() if self.dialect == "sqlite" else None
        self._writing = threading.local()
        if self.dialect == "sqlite":
            reading, writing = engine, engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        else:
            # One snapshot for all statements of a read, so that a page and its cursor agree.
            reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            writing = engine
        self._read = sessionmaker(reading, expire_on_commit=False, autoflush=False)
        self._write = sessionmaker(writing, expire_on_commit=False, autoflush=False)

    @property
    def local(self) -> bool:
        """Whether a short read takes less time than handing it to a thread; a remote server may keep one waiting."""
        return self.dialect == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees the database as of its first statement, and never commits. Writing in it is a bug.

        Raises:
            db.errors.Unavailable: the database cannot be reached.
            db.errors.UnstorableText: a parameter holds text that the database cannot hold.
        """
        with _translated_errors(), _outages(_READ_FAILURES), self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction, which is committed on a normal exit and rolled back on an exception.

        Raises:
            db.errors.Unavailable: the database cannot be reached. If the commit itself fails so, it may have happened.
            db.errors.UnstorableText: a parameter holds text that the database cannot hold.
        """
        if self._writer is None:
            with _translated_errors(), _outages(_WRITE_FAILURES), self._write.begin() as session:
                yield session
            return
        if getattr(self._writing, "now", False):
            raise RuntimeError("write() inside write(): this thread would wait for itself")
        with self._writer:
            self._writing.now = True
            try:
                with _translated_errors(), self._write.begin() as session:
                    yield session
            finally:
                self._writing.now = False

    def close(self) -> None:
        """Close every connection. The object can still be used, and then opens new ones."""
        self._engine.dispose()


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise outages and refused text as errors of db.errors, so that no caller needs to know SQLAlchemy's."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        # The driver's message alone: SQLAlchemy's also holds the statement.
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DatabaseFull(f"the database has no room to write: {cause}") from error
        raise Unavailable(f"the database cannot answer: {cause}") from error
    except DataError as error:
        if getattr(error.orig, "sqlstate", None) not in _TEXT_REFUSALS:
            raise
        raise UnstorableText(str(error.orig).partition("\n")[0]) from error


@contextmanager
def _outages(failures: Mapping[str, str]) -> Iterator[None]:
    """Raise Unavailable for these SQLSTATEs of PostgreSQL; SQLite reports the like as an OperationalError."""
    try:
        yield
    except (InternalError, ProgrammingError) as error:
        cause: Any = error.orig
        if failure := failures.get(getattr(cause, "sqlstate", "")):
            raise Unavailable(f"the database {failure}: {cause.diag.message_primary}") from error
        raise


def engine_for(url: str, idle_s: float | None = None) -> Engine:
    """Create an engine, set up for SQLite (`sqlite:///path`) or PostgreSQL (`postgresql+psycopg://`).

    Its errors and logs show no parameters of statements, which are users' data. `idle_s` is as in `Database`.
    """
    address = make_url(url)
    common: dict[str, Any] = {"json_serializer": _dumps, "json_deserializer": orjson.loads, "hide_parameters": True}
    if address.get_backend_name() == "sqlite":
        engine = create_engine(url, **common, pool_size=_POOL_SIZE, max_overflow=-1)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _drop_connections)
        return engine
    engine = create_engine(
        url,
        **common,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_pre_ping=True,
        connect_args={name: value for name, value in _CONNECTION_OPTIONS.items() if name not in address.query},
    )
    event.listen(engine, "connect", partial(_set_timeouts, idle_s=idle_s))
    event.listen(engine, "checkout", _reset_read_only)
    return engine


def _drop_connections(context: ExceptionContext) -> None:
    # A connection that was opened while the file was read-only would go on refusing writes until it is closed.
    code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}:
        context.is_disconnect = True


def _set_timeouts(connection: Any, _record: object, idle_s: float | None) -> None:
    # With SET, not by the start-up options of a connection: connection poolers refuse those.
    connection.execute(f"SET lock_timeout = {int(1000 * _LOCK_TIMEOUT_S)}")
    if idle_s is not None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(1000 * idle_s)}")
    connection.commit()


def _reset_read_only(connection: Any, *_: object) -> None:
    # SQLAlchemy leaves it False after a read. Each transaction would then begin as READ WRITE, which a standby refuses
    # with an error that is not its usual one, and which overrides a server's default_transaction_read_only.
    connection.read_only = None


def _dumps(value: Any) -> str:
    """Return JSON as it is stored, with NUL as U+FFFD: PostgreSQL keeps an escaped one, but cannot read that value."""
    text = orjson.dumps(value).decode()
    return _ESCAPED_NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver begins a transaction late and not for SELECT, so a read would not be one snapshot and a
    # write could find its snapshot stale. None turns that off; `_begin_sqlite` sends BEGIN instead.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * _LOCK_TIMEOUT_S)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
