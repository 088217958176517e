"""The clock that leases are measured by. It is the database server's, so that workers need not agree on the time."""

import time

from sqlalchemy import ColumnElement, Double, bindparam, cast, extract, func, literal, select
from sqlalchemy.orm import Session


def moment(session: Session) -> ColumnElement[float]:
    """Return an expression for the current time in Unix seconds, for use in a statement."""
    if dialect(session) == "sqlite":
        return literal(time.time(), Double)
    return _server_time()


def now(session: Session) -> float:
    """Return the current time in Unix seconds. On PostgreSQL this is a round trip; in a statement use `moment`."""
    if dialect(session) == "sqlite":
        return time.time()
    return session.execute(select(moment(session))).scalar_one()


def placeholder(name: str) -> ColumnElement[float]:
    """Return `moment` for a statement that is built once for a dialect and executed with the parameters of `given`."""
    return bindparam("now", type_=Double) if name == "sqlite" else _server_time()


def given(session: Session) -> dict[str, float]:
    """Return the parameters of a statement with a `placeholder`."""
    return {"now": time.time()} if dialect(session) == "sqlite" else {}


def dialect(session: Session) -> str:
    """Return the name of the session's database system: sqlite or postgresql."""
    return session.get_bind().dialect.name


def _server_time() -> ColumnElement[float]:
    return cast(extract("epoch", func.clock_timestamp()), Double)
