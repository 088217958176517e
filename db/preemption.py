"""Preemption: a job that runs saves a checkpoint and makes way for one of higher priority."""

from collections.abc import Collection

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import gangs, queue, records, workers
from db.models import Attempt, Job
from db.state import JobState


def arrange(s: Session, *, kinds: Collection[str], after_s: float) -> Job | None:
    """Have the running job of lowest priority make way for the one that goes next; None where there is no cause.

    There is cause when fewer workers are free than it needs, those that make way are enough, and the one that goes next has a higher priority and has waited `after_s`.
    Of equals the one whose attempt began last makes way. `kinds` are those that lose nothing by it, for they save.
    """
    waiting_id = queue.choose(s)
    if waiting_id is None:
        return None
    fleet = workers.look(s)
    waiting = s.get_one(Job, waiting_id, with_for_update=True)  # so that it waits still when another makes way for it
    if waiting.state != JobState.QUEUED or fleet.now - waiting.queued_at < after_s:
        return None
    able = fleet.alive(waiting.requires)
    lacking = waiting.nodes - fleet.free(waiting.requires)
    if lacking <= 0 or waiting.nodes > len(able):
        return None
    lower = (
        select(Job, gangs.size(Job.id, Job.fence))
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.fence))
        .where(Job.lease_expires_at.is_not(None), Job.state == JobState.RUNNING)
        .where(Job.kind.in_(kinds), Job.worker.in_(able))
        .where(Job.priority < waiting.priority, Job.preempted_by.is_(None), Job.cancel_requested_at.is_(None))
        .order_by(Job.priority, Attempt.started_at.desc())
    )
    freed = select(func.coalesce(func.sum(gangs.size(Job.id, Job.fence)), 0))
    freed = freed.where(Job.preempted_by == waiting_id, Job.lease_expires_at.is_not(None))
    lacking -= s.execute(freed).scalar_one()
    found = [(job, size) for job, size in s.execute(lower)]
    if lacking <= 0 or sum(size for _, size in found) < lacking:
        return None
    job = found[0][0]
    marked = update(Job).where(Job.id == job.id, Job.state == JobState.RUNNING, Job.fence == job.fence)
    if s.scalars(marked.values(preempted_by=waiting_id).returning(Job.id)).one_or_none() is None:
        return None
    _tell(s, job, waiting)
    return job


def _tell(s: Session, job: Job, waiting: Job) -> None:
    """Each is told of the other by its id where they are of one project, else by its priority alone."""
    same = job.project_id == waiting.project_id
    higher = waiting.id if same else "a job"
    lower = job.id if same else "a job"
    told = f"makes way for {higher} of priority {waiting.priority}: it saves a checkpoint first"
    records.note(s, job.id, "preempted", "warn", told, {"priority": waiting.priority}, attempt=job.fence)
    told = f"{lower} of priority {job.priority} makes way for this one"
    records.note(s, waiting.id, "preempting", "info", told, {"priority": job.priority})
