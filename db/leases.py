"""Leases: which worker holds a job, for how long, and how it releases it."""

from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from db import attempts, clock, gangs, jobs, outbox, queue, records, workers
from db.fence import Renewal, held, live
from db.gangs import Gang, Meeting
from db.models import Job
from db.state import HELD, JobState, sources

_BACKOFF_CAP_S = 300.0
_PASSED_ON_AFTER_S = 0.5

__all__ = [
    "Claim",
    "Offer",
    "Renewal",
    "begin_running",
    "claim",
    "claim_next",
    "expire_worker",
    "expired",
    "release",
    "renew",
    "retry_or_fail",
    "settle",
    "unclaimed",
]


class Claim(NamedTuple):
    """A job that the caller now holds, the fence that every write about it must carry, and the gang, if any."""

    job: Job
    fence: int
    gang: Gang | None = None


class Offer(NamedTuple):
    """No claim yet: the job needs `wanted` workers at once, and `waiting` of them, the caller included, wait."""

    job_id: str
    waiting: int
    wanted: int


def claim(s: Session, job_id: str, *, worker: str, lease_s: float) -> Claim | None:
    """Claim a queued job that is due; None when it cannot be claimed.

    One conditional UPDATE raises the fence, so that of any number of concurrent claims one succeeds.
    """
    now = clock.moment(s)
    job = jobs.transition(
        s,
        job_id,
        JobState.PREPARING,
        message=f"claimed by {worker}",
        conditions=[or_(Job.not_before.is_(None), Job.not_before <= now)],
        changes={
            "fence": Job.fence + 1,
            "batch": 0,
            "worker": worker,
            "lease_expires_at": now + lease_s,
            "heartbeat_at": now,
            "not_before": None,
        },
        data={"worker": worker},
    )
    if job is None:
        return None
    attempts.begin(s, job)
    return Claim(job, job.fence)


def claim_next(
    s: Session, *, worker: str, lease_s: float, meeting: Meeting | None = None, waits: bool = False
) -> Claim | Offer | None:
    """Claim the job that goes next; None when there is none.

    A job that needs several workers is claimed by the last of them, which leads; the others find their parts by
    `gangs.enlisted`. `meeting` is the address at which this worker could lead; without one another worker leads.
    `waits` says that this worker already waits for others.
    """
    job_id = queue.choose(s, worker)
    if job_id is None:
        _pass_on(s)
        return None
    wanted = gangs.wanted(s, job_id, partial(queue.choose, s))
    if wanted == 1:
        return claim(s, job_id, worker=worker, lease_s=lease_s)
    others = gangs.offer(s, job_id, worker)
    chosen = others[: wanted - 1]
    if len(others) < wanted - 1 or meeting is None or not gangs.may_meet(s, meeting, [worker, *chosen]):
        if not waits:
            outbox.add(s, job_id)  # for the next worker: the message that brought this one is used up
        return Offer(job_id, len(others) + 1, wanted)
    gangs.withdraw(s, worker)
    taken = claim(s, job_id, worker=worker, lease_s=lease_s)
    if taken is None:
        return None
    gang = gangs.enlist(s, job_id, taken.fence, chosen, meeting, lease_s=lease_s)
    message = (
        f"{wanted} workers carry it out together: {worker}, which leads at {gang.meeting.address}, {', '.join(chosen)}"
    )
    records.note(s, job_id, "gang", "info", message, {"workers": [worker, *chosen]}, attempt=taken.fence)
    return taken._replace(gang=gang)


def _pass_on(s: Session) -> None:
    """Send another message for a waiting job that an idle worker could take: this one came to a worker that cannot."""
    heads = queue.heads(s)
    if not heads:
        return
    fleet, offering = workers.look(s), gangs.offering(s).keys()
    for head in heads:
        if fleet.idle(head.requires) - offering:
            outbox.add(s, head.id, delay_s=_PASSED_ON_AFTER_S)
            return


def renew(s: Session, job_id: str, fence: int, *, lease_s: float) -> Renewal | None:
    """Renew the lease for `lease_s`; None when the fence is stale or the lease ran out."""
    return records.append(s, job_id, fence, events=(), metrics=(), lease_s=lease_s)


def begin_running(s: Session, job_id: str, fence: int) -> bool:
    """Change the state from preparing to running; no change if it runs already, since a first reply may have been lost.

    Returns False when the fence is stale or the lease ran out.
    """
    changes = {"started_at": func.coalesce(Job.started_at, clock.moment(s))}
    conditions = [*live(s, job_id, fence), Job.state == JobState.PREPARING]
    running = jobs.transition(s, job_id, JobState.RUNNING, message="running", conditions=conditions, changes=changes)
    if running is not None:
        return True
    query = select(Job.id).where(*live(s, job_id, fence), Job.state.in_((JobState.RUNNING, JobState.PAUSING)))
    return s.scalars(query).one_or_none() is not None


def release(s: Session, job_id: str, fence: int, *, outcome: str, message: str, delay_s: float = 0.0) -> bool:
    """Queue the job again without counting a failure, to be claimed `delay_s` from now at the earliest.

    A job that was asked to pause is paused instead, one that was asked to stop is cancelled. Returns False when the
    fence is stale.
    """
    job = _lock(s, job_id, fence)
    if job is None:
        return False
    if job.cancel_requested_at is not None:
        return settle(s, job_id, fence, state=JobState.CANCELLED, message=message)
    if job.state == JobState.PAUSING:
        attempts.end(s, job_id, fence, outcome=JobState.PAUSED.value, message=message)
        _pause(s, job)
        return True
    if job.preempted_by is not None:
        outcome, message = "preempted", "made way for a job of higher priority; it resumes from its last checkpoint"
    attempts.end(s, job_id, fence, outcome=outcome, message=message)
    _requeue(s, job_id, fence, message=message, level="info", delay_s=delay_s)
    return True


def settle(
    s: Session,
    job_id: str,
    fence: int,
    *,
    state: JobState,
    failure: str | None = None,
    code: str | None = None,
    message: str | None = None,
    mend: str | None = None,
    result: dict[str, Any] | None = None,
    exit_code: int | None = None,
) -> bool:
    """End the job: succeeded, failed or cancelled. Returns False when the fence is stale or the transition is illegal.

    The failure, code, message and mend are stored as the job's error only if it failed.
    """
    job = _lock(s, job_id, fence)
    if job is None or job.state not in sources(state):
        return False
    changes: dict[str, Any] = {"result": result}
    if state is JobState.FAILED:
        changes |= {"failure_class": failure, "error_code": code, "error_message": message, "error_mend": mend}
    attempts.end(s, job_id, fence, outcome=state.value, failure=failure, message=message, exit_code=exit_code)
    jobs.transition(
        s,
        job_id,
        state,
        message=message or state.value,
        level="error" if state is JobState.FAILED else "info",
        conditions=held(job_id, fence),
        changes=changes,
        data={"code": code} if code else None,
    )
    return True


def retry_or_fail(
    s: Session,
    job_id: str,
    fence: int,
    *,
    failure: str,
    code: str,
    message: str,
    mend: str | None,
    exit_code: int | None,
    max_attempts: int,
    backoff_s: float,
) -> JobState | None:
    """Queue a job again whose attempt went wrong, or fail it after `max_attempts` in a row without progress.

    Progress is a checkpoint published in this attempt that is newer than the one it started from: this failure then
    counts as the first. The delay is `backoff_s`, doubled with each further failure in a row, at most 5 minutes. A job
    that was asked to stop is cancelled, one that was asked to pause is paused. Returns the new state, None when the
    fence is stale.
    """
    job = _lock(s, job_id, fence)
    if job is None:
        return None
    if job.cancel_requested_at is not None:
        settle(s, job_id, fence, state=JobState.CANCELLED, failure=failure, message=message, exit_code=exit_code)
        return JobState.CANCELLED
    if job.state == JobState.PAUSING:
        attempts.end(
            s, job_id, fence, outcome=JobState.PAUSED.value, failure=failure, message=message, exit_code=exit_code
        )
        _pause(s, job)
        return JobState.PAUSED
    failures = 1 if attempts.progressed(s, job_id, fence) else job.failures + 1
    if failures >= max_attempts:
        s.execute(update(Job).where(Job.id == job_id).values(failures=failures))
        settle(
            s, job_id, fence,
            state=JobState.FAILED, failure=failure, code=code, message=message, mend=mend, exit_code=exit_code,
        )  # fmt: skip
        return JobState.FAILED
    delay_s = min(backoff_s * 2 ** (failures - 1), _BACKOFF_CAP_S)
    retried = f"{message.rstrip('. ')}. It is tried again from its last checkpoint."
    attempts.end(s, job_id, fence, outcome="retried", failure=failure, message=message, exit_code=exit_code)
    _requeue(s, job_id, fence, message=retried, level="warn", delay_s=delay_s, failures=failures)
    return JobState.QUEUED


def expired(s: Session, limit: int) -> list[Job]:
    """Return held jobs whose lease ran out, the earliest first."""
    query = select(Job).where(Job.lease_expires_at <= clock.moment(s))
    return list(s.scalars(query.order_by(Job.lease_expires_at).limit(limit)))


def unclaimed(s: Session, older_than_s: float, limit: int) -> list[Job]:
    """Return queued jobs that are due and were not claimed within `older_than_s` of their message."""
    due_at = func.coalesce(Job.dispatched_at, Job.not_before, Job.created_at) + older_than_s
    query = select(Job).where(*_waiting(s), due_at <= clock.moment(s))
    return list(s.scalars(query.order_by(Job.priority.desc(), Job.id).limit(limit)))


def expire_worker(s: Session, worker: str) -> int:
    """End the leases of a worker that has just started, since they are from before the restart; return how many."""
    now = clock.moment(s)
    statement = (
        update(Job)
        .where(Job.worker == worker, Job.state.in_(HELD), Job.lease_expires_at > now)
        .values(lease_expires_at=now)
        .returning(Job.id)
    )
    gangs.expire_worker(s, worker)
    return len(s.scalars(statement, execution_options={"synchronize_session": False}).all())


def _waiting(s: Session) -> tuple[ColumnElement[bool], ...]:
    return Job.state == JobState.QUEUED, or_(Job.not_before.is_(None), Job.not_before <= clock.moment(s))


def _lock(s: Session, job_id: str, fence: int) -> Job | None:
    query = select(Job).where(*held(job_id, fence)).with_for_update()
    return s.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def _pause(s: Session, job: Job) -> None:
    saved = attempts.resume_step(s, job.id)
    message = "paused before its first checkpoint" if saved is None else f"paused, saved at step {saved}"
    jobs.transition(s, job.id, JobState.PAUSED, message=message, conditions=held(job.id, job.fence))


def _requeue(
    s: Session, job_id: str, fence: int, *, message: str, level: str, delay_s: float, failures: int | None = None
) -> None:
    changes: dict[str, Any] = {"not_before": clock.moment(s) + delay_s if delay_s > 0 else None}
    if failures is not None:
        changes["failures"] = failures
    jobs.transition(
        s, job_id, JobState.QUEUED, message=message, level=level, conditions=held(job_id, fence), changes=changes
    )
    outbox.add(s, job_id, delay_s=delay_s)
