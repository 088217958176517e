"""The clock that leases are measured by: the database's own, so that workers need not agree on the time."""

import time

from sqlalchemy import ColumnElement, Double, cast, extract, func, literal, select
from sqlalchemy.orm import Session


def moment(session: Session) -> ColumnElement[float]:
    """Now, in Unix seconds, as an expression for use inside a statement."""
    if session.get_bind().dialect.name == "sqlite":
        return literal(time.time(), Double)
    return cast(extract("epoch", func.clock_timestamp()), Double)


def now(session: Session) -> float:
    """Now, in Unix seconds. One round trip on PostgreSQL; inside a statement use `moment`."""
    if session.get_bind().dialect.name == "sqlite":
        return time.time()
    return session.execute(select(moment(session))).scalar_one()
