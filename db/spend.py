"""Spend: the workers' time. An attempt is booked when it ends, on each of its days; running ones are added."""

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, SQLColumnExpression, case, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock, gangs
from db.models import Attempt, Job, Spend

DAY_S = 86_400
By = Literal["project", "key", "kind", "day"]
_BY: dict[str, Any] = {"project": Spend.project_id, "key": Spend.key_id, "kind": Spend.kind, "day": Spend.day}
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Group(NamedTuple):
    """The use of a project, a key, a kind or a day."""

    of: str | int
    worker_s: float
    attempts: int


def book(s: Session, job_id: str, number: int, started_at: float, ended_at: float) -> None:
    """Book an attempt that has just ended, for each of its workers; as an attempt it counts on its last day."""
    owner = select(Job.project_id, Job.key_id, Job.kind, gangs.size(Job.id, literal(number))).where(Job.id == job_id)
    project_id, key_id, kind, workers = s.execute(owner).one()
    row = {"project_id": project_id, "key_id": key_id or "", "kind": kind}
    last = int(ended_at // DAY_S)
    days = [
        row | {"day": day, "worker_s": workers * seconds, "attempts": int(day == last)}
        for day, seconds in _by_day(started_at, ended_at).items()
    ]
    took = _INSERT[clock.dialect(s)](Spend)
    more = {
        "worker_s": Spend.worker_s + took.excluded.worker_s,
        "attempts": Spend.attempts + took.excluded.attempts,
    }
    s.execute(took.on_conflict_do_update(index_elements=[*row, "day"], set_=more), days)


def _by_day(started_at: float, ended_at: float) -> dict[int, float]:
    """Return the seconds that fall on each day; the last day is included even where it has none."""
    last = int(ended_at // DAY_S)
    return {
        day: max(0.0, min(ended_at, (day + 1) * DAY_S) - max(started_at, day * DAY_S))
        for day in range(min(last, int(started_at // DAY_S)), last + 1)
    }


def this_month(s: Session, project_id: str, key_id: str | None = None) -> float:
    """Return the workers' seconds that a project, or a key of it, has used this month, running attempts included."""
    now = clock.now(s)
    first_day = first_of_month(now)
    entered = select(func.coalesce(func.sum(Spend.worker_s), 0.0)).where(
        Spend.project_id == project_id, Spend.day >= first_day
    )
    began = literal(float(first_day * DAY_S))
    seconds = _later(earlier(Job.lease_expires_at, literal(now)), began) - _later(Attempt.started_at, began)
    # The project as an expression: by the column itself, SQLite would read all jobs that the project ever had.
    running = (
        select(func.coalesce(func.sum(seconds * gangs.size(Attempt.job_id, Attempt.number)), 0.0))
        .join(Job, (Job.id == Attempt.job_id) & (Job.fence == Attempt.number))
        .where(Job.lease_expires_at.is_not(None), Job.project_id.concat("") == project_id)
    )
    if key_id is not None:
        entered, running = entered.where(Spend.key_id == key_id), running.where(Job.key_id == key_id)
    return s.execute(entered).scalar_one() + s.execute(running).scalar_one()


def earlier(moment: SQLColumnExpression[float | None], other: SQLColumnExpression[float]) -> ColumnElement[float]:
    """Return the earlier of two moments as an SQL expression; `other` where the first is null."""
    return case((moment < other, moment), else_=other)


def _later(moment: SQLColumnExpression[float], other: SQLColumnExpression[float]) -> ColumnElement[float]:
    return case((moment > other, moment), else_=other)


def report(
    s: Session,
    by: By,
    *,
    since: int,
    until: int,
    project_id: str | None = None,
    key_id: str | None = None,
    kind: str | None = None,
) -> list[Group]:
    """Return the use on the days from `since` to `until`, both included, of all projects if none is named."""
    column = _BY[by]
    query = select(column, func.sum(Spend.worker_s), func.sum(Spend.attempts)).where(Spend.day.between(since, until))
    for filtered, wanted in ((Spend.project_id, project_id), (Spend.key_id, key_id), (Spend.kind, kind)):
        if wanted is not None:
            query = query.where(filtered == wanted)
    return [Group(*row) for row in s.execute(query.group_by(column).order_by(column))]


def first_of_month(now: float) -> int:
    """Return the day on which the month began."""
    return int(datetime.fromtimestamp(now, UTC).replace(day=1).timestamp() // DAY_S)
