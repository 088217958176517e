"""Preemption: a running job saves a checkpoint and makes way for a waiting job of higher priority."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import func, literal_column, select, update
from sqlalchemy.orm import Session

from db import gangs, queue, records, workers
from db.models import Attempt, Job
from db.queue import Head
from db.state import JobState
from db.workers import Fleet


class _Held(NamedTuple):
    """A job that is held, and the workers that carry it out."""

    job: Job
    workers: set[str]


def is_due(s: Session, *, kinds: Collection[str]) -> bool:
    """Return whether any running job of these kinds has a lower priority than any waiting job.

    Otherwise `arrange`, which ranks the whole queue in a write transaction, has nothing to do.
    """
    held = select(func.min(Job.priority)).where(Job.lease_expires_at.is_not(None), Job.state == JobState.RUNNING)
    unasked = Job.kind.in_(kinds), Job.preempted_by.is_(None), Job.cancel_requested_at.is_(None)
    running = s.execute(held.where(*unasked)).scalar_one()
    if running is None:
        return False
    # The state is spelled out: a parameter would keep SQLite from the partial index.
    waiting = s.execute(select(func.max(Job.priority)).where(Job.state == literal_column("'queued'"))).scalar_one()
    return waiting is not None and running < waiting


def arrange(s: Session, *, kinds: Collection[str], after_s: float) -> Job | None:
    """Have one running job make way for a waiting one, and return it; None where there is no cause.

    The waiting jobs are those that go next (`queue.heads`), tried in order. There is cause for one that has waited
    `after_s` when too few workers are free for it, and jobs of lower priority hold enough of the workers that it could
    have: workers that a job ahead of it could take would not come to it. The job of lowest priority makes way, of
    equals the one whose attempt began last. `kinds` are the kinds of jobs that lose nothing by it, since they save.
    """
    heads = queue.heads(s)
    if not heads:
        return None
    fleet, offers = workers.look(s), gangs.offering(s)
    held = _held(s, fleet)
    lower = [one for one in held if _may_make_way(one.job, kinds)]
    ahead: set[str] = set()
    for head in heads:
        able = fleet.alive(head.requires)
        free = {name for name in fleet.idle(head.requires) if offers.get(name, head.id) == head.id}
        freed = [name for one in held if one.job.preempted_by == head.id for name in one.workers & able]
        lacking = head.nodes - len(free) - len(freed)
        waited = fleet.now - head.queued_at >= after_s
        useful = [one for one in lower if one.job.priority < head.priority and one.workers & (able - ahead)]
        if waited and 0 < lacking <= sum(len(one.workers & (able - ahead)) for one in useful):
            return _make_way(s, useful[0].job, head)
        ahead |= able
    return None


def _held(s: Session, fleet: Fleet) -> list[_Held]:
    """Return the jobs that are held, in the order in which they make way."""
    query = select(Job).join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == Job.fence))
    query = query.where(Job.lease_expires_at.is_not(None)).order_by(Job.priority, Attempt.started_at.desc())
    helpers: dict[str, set[str]] = {}
    for worker, job_id in fleet.helping.items():
        helpers.setdefault(job_id, set()).add(worker)
    return [_Held(job, helpers.get(job.id, set()) | {job.worker or ""}) for job in s.scalars(query)]


def _may_make_way(job: Job, kinds: Collection[str]) -> bool:
    unasked = job.preempted_by is None and job.cancel_requested_at is None
    return unasked and job.state == JobState.RUNNING and job.kind in kinds


def _make_way(s: Session, job: Job, head: Head) -> Job | None:
    """Mark the running job; None where it, or the job that waits, is no longer as it was seen."""
    waiting = s.get_one(Job, head.id, with_for_update=True)  # so that it still waits when another makes way for it
    if waiting.state != JobState.QUEUED:
        return None
    marked = update(Job).where(Job.id == job.id, Job.state == JobState.RUNNING, Job.fence == job.fence)
    if s.scalars(marked.values(preempted_by=head.id).returning(Job.id)).one_or_none() is None:
        return None
    _announce(s, job, waiting)
    return job


def _announce(s: Session, job: Job, waiting: Job) -> None:
    """Note it with both jobs. Each is named to the other by its id within one project, else by its priority alone."""
    same = job.project_id == waiting.project_id
    higher = waiting.id if same else "a job"
    lower = job.id if same else "a job"
    message = f"makes way for {higher} of priority {waiting.priority}: it saves a checkpoint first"
    records.note(s, job.id, "preempted", "warn", message, {"priority": waiting.priority}, attempt=job.fence)
    message = f"{lower} of priority {job.priority} makes way for this one"
    records.note(s, waiting.id, "preempting", "info", message, {"priority": job.priority})
