"""The clock that leases are measured by: the database's own, so that workers need not agree on the time."""

import time

from sqlalchemy import ColumnElement, Double, bindparam, cast, extract, func, literal, select
from sqlalchemy.orm import Session


def moment(session: Session) -> ColumnElement[float]:
    """Now, in Unix seconds, as an expression for use inside a statement."""
    if dialect(session) == "sqlite":
        return literal(time.time(), Double)
    return _server_time()


def now(session: Session) -> float:
    """Now, in Unix seconds. One round trip on PostgreSQL; inside a statement use `moment`."""
    if dialect(session) == "sqlite":
        return time.time()
    return session.execute(select(moment(session))).scalar_one()


def placeholder(name: str) -> ColumnElement[float]:
    """`moment` for a statement that is built once for a dialect and run with the parameters of `given`."""
    return bindparam("now", type_=Double) if name == "sqlite" else _server_time()


def given(session: Session) -> dict[str, float]:
    """What a statement with a `placeholder` has to be run with."""
    return {"now": time.time()} if dialect(session) == "sqlite" else {}


def dialect(session: Session) -> str:
    """The name of the session's database system: sqlite or postgresql."""
    return session.get_bind().dialect.name


def _server_time() -> ColumnElement[float]:
    return cast(extract("epoch", func.clock_timestamp()), Double)
