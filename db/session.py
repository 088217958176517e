"""The way to the database: reads that see one moment, writes that happen whole or not at all."""

import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from db.errors import DatabaseFull, Unavailable

_BUSY_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5
_BEHIND = {"42P01": "has no such table until it is migrated", "42703": "has no such column until it is migrated"}
_GIVEN_UP = {"25P03": "did not wait for the end of a transaction"} | _BEHIND
_REFUSED = {"25006": "takes no writes now"} | _GIVEN_UP
"""By PostgreSQL's code, what it says that is no mistake of ours: of any transaction, and of one that writes."""
_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""In JSON; behind another backslash it is the text of one."""
_POOL_SIZE = 10
_POOL_OVERFLOW = 10

__all__ = ["Database", "Session", "engine_for"]


class Database:
    """One database as one process sees it.

    Make it after a fork, never before: connections do not survive one. A thread that is inside
    `write` must not enter it again, and should not wait for anything but the database in there.
    With `idle_s` PostgreSQL takes back, with its locks, what a process that stands still for so long has begun.
    """

    def __init__(self, url: str, *, idle_s: float | None = None) -> None:
        engine = engine_for(url, idle_s)
        self.url = url
        self.dialect = engine.dialect.name
        self._engine = engine
        # SQLite lets one connection write at a time. Waiting for a lock of ours is fair and wakes
        # at once; SQLite's own waiting polls, and is left for the writers of other processes.
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
        """Whether a short read is done in less time than handing it to a thread takes; a server may keep one waiting."""
        return self.dialect == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees the database as it was at its first statement, and never commits.

        Raises db.errors.Unavailable when the database cannot be reached. A write in here is a mistake of ours.
        """
        with _told_apart(), _refusal_told(_GIVEN_UP), self._read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction: committed on the way out, rolled back on an exception.

        Raises db.errors.Unavailable when the database cannot be reached; where that befalls the
        commit itself, it may have taken place.
        """
        if self._writer is None:
            with _told_apart(), _refusal_told(_REFUSED), self._write.begin() as session:
                yield session
            return
        if getattr(self._writing, "now", False):
            raise RuntimeError("write() inside write(): this thread would wait for itself")
        with self._writer:
            self._writing.now = True
            try:
                with _told_apart(), self._write.begin() as session:
                    yield session
            finally:
                self._writing.now = False

    def close(self) -> None:
        """Close every connection; the object can be used again."""
        self._engine.dispose()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell a database that is away from a mistake of ours, without the callers knowing SQLAlchemy."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        # The driver's own words: SQLAlchemy's hold the statement and its parameters, which are a user's.
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DatabaseFull(f"the database has no room to write: {cause}") from error
        raise Unavailable(f"the database cannot answer: {cause}") from error


@contextmanager
def _refusal_told(told: Mapping[str, str]) -> Iterator[None]:
    """Unavailable where PostgreSQL takes no writes, lacks a table yet, or gave up; SQLite says so as it says the rest."""
    try:
        yield
    except (InternalError, ProgrammingError) as error:
        cause: Any = error.orig
        if refused := told.get(getattr(cause, "sqlstate", "")):
            raise Unavailable(f"the database {refused}: {cause.diag.message_primary}") from error
        raise


def engine_for(url: str, idle_s: float | None = None) -> Engine:
    """An engine with this project's habits for SQLite (`sqlite:///path`) or PostgreSQL (`postgresql+psycopg://`)."""
    json: dict[str, Any] = {"json_serializer": _dumps, "json_deserializer": orjson.loads}
    if make_url(url).get_backend_name() == "sqlite":
        engine = create_engine(url, **json, pool_size=_POOL_SIZE, max_overflow=-1)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _drop_connections)
        return engine
    engine = create_engine(
        url,
        **json,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
    )
    if idle_s is not None:
        event.listen(engine, "connect", partial(_end_idle_transactions, idle_ms=int(1000 * idle_s)))
    event.listen(engine, "checkout", _leave_writing_to_the_server)
    return engine


def _drop_connections(context: ExceptionContext) -> None:
    # One that was opened while the file took no writes would refuse them for as long as it is open.
    code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}:
        context.is_disconnect = True


def _end_idle_transactions(connection: Any, _record: object, idle_ms: int) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout = {idle_ms}")
    connection.commit()


def _leave_writing_to_the_server(connection: Any, *_: object) -> None:
    # SQLAlchemy leaves False after a read: each transaction would then ask to write, which a standby answers with an
    # error of its own, and a server that was set to take no writes with taking them.
    connection.read_only = None


def _dumps(value: Any) -> str:
    """JSON as it is stored, NUL as U+FFFD: PostgreSQL keeps an escaped one, and then reads nothing out of that value."""
    text = orjson.dumps(value).decode()
    return _ESCAPED_NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own BEGIN comes late and skips SELECT, so a read would not be one snapshot and a
    # write could find its snapshot stale. None turns that off; `_begin_sqlite` says BEGIN instead.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
