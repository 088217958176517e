"""Attempts: the record of each claim of a job and of how it ended."""

from typing import Any

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.orm import Session

from db import clock, gangs, spend
from db.models import Artifact, Attempt, Job

_FIRST = 1
"""The number of a job's first attempt."""


def begin(s: Session, job: Job) -> None:
    """Record the claim that has just been made of the job, and the checkpoint that it resumes from."""
    now = clock.moment(s)
    row = {
        "job_id": job.id,
        "number": job.fence,
        "worker": job.worker,
        "started_at": now,
        "waited_s": now - job.created_at if job.fence == _FIRST else None,
        "resume_step": _newest_step(job.id).scalar_subquery(),
    }
    s.execute(insert(Attempt.__table__).values(row))  # pyright: ignore[reportArgumentType] - a table, typed as FromClause


def end(
    s: Session,
    job_id: str,
    number: int,
    *,
    outcome: str,
    failure: str | None = None,
    message: str | None = None,
    exit_code: int | None = None,
) -> None:
    """Record how an attempt ended, and the worker time that it used. Call it while the job still has its lease.

    The attempt ended when its lease expired, however late that is noticed.
    """
    over = spend.earlier(Job.lease_expires_at, clock.moment(s))
    ended_at = select(over).where(Job.id == job_id).scalar_subquery()
    values = {"ended_at": ended_at, "outcome": outcome, "failure_class": failure}
    values |= {"message": message, "exit_code": exit_code}
    statement = (
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.number == number, Attempt.ended_at.is_(None))
        .values(values)
        .returning(Attempt.started_at, Attempt.ended_at)
    )
    ended = s.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
    if ended is not None:
        spend.book(s, job_id, number, *ended)
        gangs.end_all(s, job_id, number)


def last_words(s: Session, job: Job) -> str | None:
    """Return the final message of the job's latest attempt, if it has ended."""
    query = select(Attempt.message).where(Attempt.job_id == job.id, Attempt.number == job.fence)
    return s.scalars(query).one_or_none()


def resume_step(s: Session, job_id: str) -> int | None:
    """Return the step of the checkpoint that the next attempt resumes from, or None for a fresh start."""
    return s.execute(_newest_step(job_id)).scalar_one()


def progressed(s: Session, job_id: str, number: int) -> bool:
    """Return whether the attempt has published a checkpoint newer than the one that it resumed from."""
    newer = (
        select(Artifact.id)
        .join(Attempt, Attempt.job_id == Artifact.job_id)
        .where(Attempt.job_id == job_id, Attempt.number == number, Artifact.kind == "checkpoint")
        .where(Artifact.step > func.coalesce(Attempt.resume_step, 0), Artifact.created_at >= Attempt.started_at)
    )
    return s.scalars(newer.limit(1)).first() is not None


def _newest_step(job_id: str) -> Select[Any]:
    return select(func.max(Artifact.step)).where(
        Artifact.job_id == job_id, Artifact.kind == "checkpoint", Artifact.deleted_at.is_(None)
    )
