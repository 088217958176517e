"""Figures of the whole service for its operator's monitoring, counted when they are requested.

They are requested every few seconds, so each reads an index alone, or few rows.
"""

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Attempt, Job
from db.state import JobState


class Waits(NamedTuple):
    """The number of jobs that were ever started, and the sum of the times they had waited for their first attempt."""

    jobs: int
    seconds: float


class Speed(NamedTuple):
    """The latest speed that a running job reported."""

    job_id: str
    kind: str
    tokens_per_s: float | None
    mfu: float | None


def jobs_by_state(s: Session) -> dict[str, int]:
    """Return the number of jobs in each state, including the states that no job is in."""
    rows = s.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict.fromkeys(map(str, JobState), 0) | {state: count for state, count in rows if state}


def waits(s: Session) -> Waits:
    started = select(func.count(), func.coalesce(func.sum(Attempt.waited_s), 0.0))
    return Waits(*s.execute(started.where(Attempt.waited_s.is_not(None))).one())


def oldest_queued_at(s: Session) -> float | None:
    """Return when the longest-waiting job was queued, or None if no job is queued."""
    return s.execute(select(func.min(Job.queued_at)).where(Job.state == JobState.QUEUED)).scalar_one()


def failures(s: Session) -> dict[str, int]:
    """Return the number of failed attempts by failure class, including those that a later attempt made up for."""
    query = select(Attempt.failure_class, func.count()).where(Attempt.failure_class.is_not(None))
    return {name: count for name, count in s.execute(query.group_by(Attempt.failure_class)) if name}


def lease_expiries(s: Session) -> int:
    """Return the number of attempts that were lost with their worker, which did not renew its lease."""
    lost = select(func.count()).where(Attempt.failure_class == "worker_lost", Attempt.exit_code.is_(None))
    return s.execute(lost).scalar_one()


def speeds(s: Session) -> list[Speed]:
    """Return the speeds of the jobs that workers hold, in the order of their ids."""
    held = select(Job.id, Job.kind, Job.progress).where(Job.lease_expires_at.is_not(None))
    rows = [(job_id, kind, progress or {}) for job_id, kind, progress in s.execute(held)]
    return sorted(Speed(job_id, kind, values.get("tokens_per_s"), values.get("mfu")) for job_id, kind, values in rows)
