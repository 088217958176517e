"""Jobs: showing, cancelling, pausing, resuming and retrying them."""

from api.answers import Page, Series
from api.auth import Caller
from api.deps import Service
from api.errors import conflict, not_found
from api.jobs.schemas import EventObject, JobObject, MetricObject, Status, event_object, metric_object
from api.jobs.views import job_object, job_objects
from api.models.schemas import ArtifactObject, artifact_object
from api.spend.service import over_budget
from db import artifacts, audit, budgets, jobs, orders, records
from db.models import Job
from db.paging import Order
from db.session import Session
from db.state import ENDED, JobState

_ENDED = {JobState.SUCCEEDED: "succeeded", JobState.FAILED: "failed", JobState.CANCELLED: "been cancelled"}


def find(session: Session, caller: Caller, job_id: str) -> Job:
    """Return a job of the project. Raises ApiError 404 when there is none."""
    job = jobs.get(session, caller.project_id, job_id)
    if job is None:
        raise not_found("job", job_id)
    return job


def show(service: Service, caller: Caller, job_id: str) -> JobObject:
    with service.database.read() as session:
        return job_object(session, find(session, caller, job_id))


def page(
    service: Service,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    kind: str | None,
    status: Status | None,
    ids: list[str] | None,
) -> Page[JobObject]:
    with service.database.read() as session:
        rows, has_more = jobs.page(
            session, caller.project_id, after=after, limit=limit, kinds=kind and (kind,), state=status, ids=ids
        )
        return Page.of(job_objects(session, rows), has_more)


def cancel(service: Service, caller: Caller, job_id: str) -> JobObject:
    """Request that a job stops; repeating the request has no effect.

    Raises:
        ApiError: 404, or 409 when the job has ended by itself.
    """
    with service.database.write() as session:
        job = orders.cancel(session, caller.project_id, job_id)
        if job is None:
            raise not_found("job", job_id)
        if job.state in {JobState.SUCCEEDED, JobState.FAILED}:
            raise conflict("job_ended", f"the job has already {job.state}; there is nothing to cancel")
        audit.note(session, "job.cancel", job_id)
        return job_object(session, job)


def pause(service: Service, caller: Caller, job_id: str) -> JobObject:
    """Request that a job saves a checkpoint and waits; repeating the request has no effect.

    Raises:
        ApiError: 404, or 409 when the job has ended or is being cancelled.
    """
    with service.database.write() as session:
        job = orders.pause(session, caller.project_id, job_id)
        if job is None:
            raise not_found("job", job_id)
        _require_going_on(job, "pause")
        audit.note(session, "job.pause", job_id)
        return job_object(session, job)


def resume(service: Service, caller: Caller, job_id: str) -> JobObject:
    """Resume a paused job; any other stays as it is.

    Raises:
        ApiError: 404, 409 when the job has ended or is being cancelled, or 403 when it is over budget.
    """
    with service.database.write() as session:
        before = jobs.lock(session, caller.project_id, job_id)
        if before is not None and before.state in {JobState.PAUSED, JobState.PAUSING}:
            _require_room(session, caller, before, service.settings.price_per_hour)
        job = orders.resume(session, caller.project_id, job_id)
        if job is None:
            raise not_found("job", job_id)
        _require_going_on(job, "resume")
        audit.note(session, "job.resume", job_id)
        shown = job_object(session, job)
    service.dispatcher.wake()
    return shown


def retry(service: Service, caller: Caller, job_id: str) -> JobObject:
    """Retry a failed job; one that waits or runs stays as it is.

    Raises:
        ApiError: 404, 409 when the job succeeded or was cancelled, or 403 when it is over budget.
    """
    with service.database.write() as session:
        before = jobs.lock(session, caller.project_id, job_id)
        if before is not None and before.state == JobState.FAILED:
            _require_room(session, caller, before, service.settings.price_per_hour)
        job = orders.retry(session, caller.project_id, job_id)
        if job is None:
            raise not_found("job", job_id)
        _require_going_on(job, "retry")
        audit.note(session, "job.retry", job_id)
        shown = job_object(session, job)
    service.dispatcher.wake()
    return shown


def _require_room(session: Session, caller: Caller, job: Job, price_per_hour: float | None) -> None:
    """Check the budgets of the project and of the key that made the job; a job that still runs needs no new place.

    Raises:
        ApiError: 403 when one is exceeded.
    """
    key_id = job.key_id or caller.key_id
    if job.state == JobState.PAUSING:
        excess = budgets.overspent(session, job.project_id, key_id, price_per_hour=price_per_hour)
    else:
        excess = budgets.excess(session, job.project_id, key_id, price_per_hour=price_per_hour, jobs=1)
    if excess is not None:
        raise over_budget(excess)


def _require_going_on(job: Job, verb: str) -> None:
    if job.state in ENDED:
        raise conflict("job_ended", f"the job has already {_ENDED[JobState(job.state)]}; there is nothing to {verb}")
    if job.cancel_requested_at is not None:
        raise conflict("job_cancelling", f"the job is being cancelled; there is nothing to {verb}")


def events(
    service: Service, caller: Caller, job_id: str, *, after: int, limit: int, order: Order, **only: str | None
) -> Series[EventObject]:
    """Return a page of events, or only of those of a `level` or a `type`."""
    with service.database.read() as session:
        find(session, caller, job_id)
        rows, has_more = records.events_page(session, job_id, after_seq=after, limit=limit, order=order, **only)
    ids = [row.seq for row in rows] or [None]
    return Series(data=[event_object(row) for row in rows], has_more=has_more, first_id=ids[0], last_id=ids[-1])


def metrics(
    service: Service, caller: Caller, job_id: str, *, split: str | None, after: int | None, limit: int
) -> Series[MetricObject]:
    with service.database.read() as session:
        find(session, caller, job_id)
        rows, has_more = records.metrics_page(session, job_id, split=split, after_step=after, limit=limit)
    ids = [row.step for row in rows] or [None]
    return Series(data=[metric_object(row) for row in rows], has_more=has_more, first_id=ids[0], last_id=ids[-1])


def checkpoints(
    service: Service, caller: Caller, job_id: str, *, after: str | None, limit: int
) -> Page[ArtifactObject]:
    with service.database.read() as session:
        find(session, caller, job_id)
        rows, has_more = artifacts.page(
            session, caller.project_id, kinds=("checkpoint",), job_id=job_id, after=after, limit=limit
        )
        return Page.of([artifact_object(row) for row in rows], has_more)
