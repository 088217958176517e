"""The outbox: messages to the broker, which no crash can lose because they are committed with what they announce."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Double, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock
from db.models import Job, Outbox

_TOPIC = "job"
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Pending(NamedTuple):
    """A message that is due, with the priority of its job."""

    id: int
    job_id: str
    priority: int


def add(s: Session, job_id: str, *, delay_s: float = 0.0) -> None:
    """Announce the job to the workers `delay_s` from now. An unsent message about it is moved to that time."""
    s.execute(_adding(clock.dialect(s)), {"job_id": job_id, "delay_s": delay_s} | clock.given(s))


def add_all(s: Session, job_ids: Sequence[str]) -> None:
    """Announce jobs to the workers now."""
    given = {"delay_s": 0.0} | clock.given(s)
    s.execute(_adding(clock.dialect(s)), [{"job_id": job_id} | given for job_id in job_ids])


def pending(s: Session, limit: int) -> list[Pending]:
    """Return unsent messages that are due, oldest first."""
    query = _pending(clock.dialect(s))
    return [Pending(*row) for row in s.execute(query, {"limit": limit} | clock.given(s))]


def mark_sent(s: Session, ids: Sequence[int]) -> None:
    """Mark messages as sent to the broker, and count the dispatch on their jobs, from which a later one is timed.

    Messages that another process has marked meanwhile are left alone.
    """
    sent, dispatched = _sent(clock.dialect(s))
    now = clock.given(s)
    job_ids = list(s.scalars(sent, {"ids": list(ids)} | now, execution_options={"synchronize_session": False}))
    s.execute(dispatched, {"job_ids": job_ids} | now, execution_options={"synchronize_session": False})


def purge(s: Session, older_than_s: float, limit: int = 200) -> int:
    """Delete at most `limit` messages that were sent more than `older_than_s` ago, and return their number."""
    old = select(Outbox.id).where(Outbox.sent_at < clock.moment(s) - older_than_s).limit(limit)
    gone = delete(Outbox).where(Outbox.id.in_(old)).returning(Outbox.id)
    return len(s.scalars(gone, execution_options={"synchronize_session": False}).all())


# Each is built once: constructing a statement costs more than running it.


@cache
def _pending(dialect: str) -> Any:
    return (
        select(Outbox.id, Outbox.job_id, Job.priority)
        .join(Job, Job.id == Outbox.job_id)
        .where(Outbox.sent_at.is_(None), Outbox.due_at <= clock.placeholder(dialect))
        .order_by(Outbox.due_at, Outbox.id)
        .limit(bindparam("limit"))
    )


@cache
def _sent(dialect: str) -> tuple[Any, Any]:
    """Build the statements that mark messages and that count their dispatch."""
    now = clock.placeholder(dialect)
    sent = update(Outbox).where(Outbox.id.in_(bindparam("ids", expanding=True)), Outbox.sent_at.is_(None))
    dispatched = update(Job).where(Job.id.in_(bindparam("job_ids", expanding=True)))
    return (
        sent.values(sent_at=now, attempts=Outbox.attempts + 1).returning(Outbox.job_id),
        dispatched.values(dispatched_at=now, dispatches=Job.dispatches + 1),
    )


@cache
def _adding(dialect: str) -> Any:
    now = clock.placeholder(dialect)
    row = {"job_id": bindparam("job_id"), "topic": _TOPIC, "created_at": now, "attempts": 0}
    row["due_at"] = now + bindparam("delay_s", type_=Double)
    statement = _INSERT[dialect](Outbox.__table__).values(row)
    return statement.on_conflict_do_update(
        index_elements=["job_id"],
        index_where=Outbox.sent_at.is_(None),
        set_={"due_at": statement.excluded.due_at},
    )
