"""Figures of the whole service, for its operator's monitoring: counted when they are asked for."""

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Attempt, Job
from db.state import JobState


class Waits(NamedTuple):
    """Of the jobs that were started: how many, and how long they had waited for their first attempt, together."""

    jobs: int
    seconds: float


class Speed(NamedTuple):
    """What a running job told last."""

    job_id: str
    kind: str
    tokens_per_s: float | None
    mfu: float | None


def jobs_by_state(s: Session) -> dict[str, int]:
    """All states, also those that no job is in."""
    rows = s.execute(select(Job.state, func.count()).group_by(Job.state))
    return dict.fromkeys(map(str, JobState), 0) | {state: count for state, count in rows if state}


def waits(s: Session) -> Waits:
    waited = func.sum(Attempt.started_at - Job.created_at)
    started = select(func.count(), func.coalesce(waited, 0.0)).join(Job, Job.id == Attempt.job_id)
    return Waits(*s.execute(started.where(Attempt.number == 1)).one())


def oldest_queued_at(s: Session) -> float | None:
    """When the job began to wait that waits the longest, if any waits."""
    return s.execute(select(func.min(Job.queued_at)).where(Job.state == JobState.QUEUED)).scalar_one()


def failures(s: Session) -> dict[str, int]:
    """Attempts that went wrong, by class; those that another attempt mended too."""
    query = select(Attempt.failure_class, func.count()).where(Attempt.failure_class.is_not(None))
    return {name: count for name, count in s.execute(query.group_by(Attempt.failure_class)) if name}


def lease_expiries(s: Session) -> int:
    """Attempts that nobody ended: their worker was not heard of until the lease was over."""
    lost = select(func.count()).where(Attempt.failure_class == "worker_lost", Attempt.exit_code.is_(None))
    return s.execute(lost).scalar_one()


def speeds(s: Session) -> list[Speed]:
    """Of the jobs that run now."""
    running = select(Job.id, Job.kind, Job.progress).where(Job.lease_expires_at.is_not(None))
    told = [(job_id, kind, progress or {}) for job_id, kind, progress in s.execute(running)]
    return sorted(Speed(job_id, kind, values.get("tokens_per_s"), values.get("mfu")) for job_id, kind, values in told)
