"""The outbox: messages to the broker that no crash can lose, for they commit with what they are about."""

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
    """A message that is due, and the priority of its job."""

    id: int
    job_id: str
    priority: int


def add(s: Session, job_id: str, *, delay_s: float = 0.0) -> None:
    """Have the job told to the workers, `delay_s` from now. An unsent message of this job is moved to that time."""
    s.execute(_adding(clock.dialect(s)), {"job_id": job_id, "delay_s": delay_s} | clock.given(s))


def add_all(s: Session, job_ids: Sequence[str]) -> None:
    """Have jobs told to the workers now."""
    given = {"delay_s": 0.0} | clock.given(s)
    s.execute(_adding(clock.dialect(s)), [{"job_id": job_id} | given for job_id in job_ids])


def pending(s: Session, limit: int) -> list[Pending]:
    """Messages that are due and not sent, oldest first."""
    query = _pending(clock.dialect(s))
    return [Pending(*row) for row in s.execute(query, {"limit": limit} | clock.given(s))]


def mark_sent(s: Session, ids: Sequence[int]) -> None:
    """The broker has these messages. Also counts the dispatch on their jobs, from which a later one is timed.

    Messages that someone else marked meanwhile are left alone.
    """
    sent, told = _sent(clock.dialect(s))
    now = clock.given(s)
    job_ids = list(s.scalars(sent, {"ids": list(ids)} | now, execution_options={"synchronize_session": False}))
    s.execute(told, {"job_ids": job_ids} | now, execution_options={"synchronize_session": False})


def purge(s: Session, older_than_s: float) -> int:
    """Drop what was sent longer ago than that; how many messages."""
    old = delete(Outbox).where(Outbox.sent_at < clock.moment(s) - older_than_s).returning(Outbox.id)
    return len(s.scalars(old, execution_options={"synchronize_session": False}).all())


# Each is built once: putting a statement together costs more than running it.


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
    """What marks messages, and what counts their dispatch."""
    now = clock.placeholder(dialect)
    sent = update(Outbox).where(Outbox.id.in_(bindparam("ids", expanding=True)), Outbox.sent_at.is_(None))
    told = update(Job).where(Job.id.in_(bindparam("job_ids", expanding=True)))
    return (
        sent.values(sent_at=now, attempts=Outbox.attempts + 1).returning(Outbox.job_id),
        told.values(dispatched_at=now, dispatches=Job.dispatches + 1),
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
