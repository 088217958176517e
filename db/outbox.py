"""The outbox: messages to the broker that no crash can lose, for they commit with what they are about."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock
from db.models import Job, Outbox

_TOPIC = "job"
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def add(s: Session, job_id: str, *, delay_s: float = 0.0) -> None:
    """Have the job told to the workers, `delay_s` from now. An unsent message of this job is moved to that time."""
    now = clock.moment(s)
    row = {"job_id": job_id, "topic": _TOPIC, "created_at": now, "due_at": now + delay_s, "attempts": 0}
    statement = _INSERT[s.get_bind().dialect.name](Outbox.__table__).values(row)
    unsent = Outbox.sent_at.is_(None)
    statement = statement.on_conflict_do_update(
        index_elements=["job_id"], index_where=unsent, set_={"due_at": statement.excluded.due_at}
    )
    s.execute(statement)


def pending(s: Session, limit: int) -> list[Outbox]:
    """Messages that are due and not sent, oldest first."""
    query = select(Outbox).where(Outbox.sent_at.is_(None), Outbox.due_at <= clock.moment(s))
    return list(s.scalars(query.order_by(Outbox.due_at, Outbox.id).limit(limit)))


def mark_sent(s: Session, ids: Sequence[int]) -> None:
    """The broker has these messages. Also counts the dispatch on their jobs, from which a later one is timed.

    Messages that someone else marked meanwhile are left alone.
    """
    now = clock.moment(s)
    sent = update(Outbox).where(Outbox.id.in_(ids), Outbox.sent_at.is_(None))
    sent = sent.values(sent_at=now, attempts=Outbox.attempts + 1).returning(Outbox.job_id)
    job_ids = list(s.scalars(sent, execution_options={"synchronize_session": False}))
    told = update(Job).where(Job.id.in_(job_ids)).values(dispatched_at=now, dispatches=Job.dispatches + 1)
    s.execute(told, execution_options={"synchronize_session": False})
