"""Fine-tuning jobs: the jobs of /v1/jobs that train, submitted and shown in OpenAI's format."""

from collections.abc import Sequence
from typing import Any

from anyio import to_thread

from api.answers import Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.jobs import service as native
from api.jobs import submit
from api.openai.fine_tuning import translation
from api.openai.fine_tuning.schemas import (
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    Integration,
    JobRequest,
)
from db import artifacts, jobs, projects, records
from db.idempotency import IdempotentRequest
from db.models import Job, Project
from db.session import Session

_MADE = ("model", "adapter")
_EVENT = "ftevent-"
_ORDERS = {"cancel": native.cancel, "pause": native.pause, "resume": native.resume}


async def create(service: Service, caller: Caller, asked: JobRequest, ask: IdempotentRequest | None) -> FineTuningJob:
    """Submit a job, or return the one that the same request made before.

    Raises:
        ApiError: 400, which is OpenAI's status for any fault in such a request.
    """
    try:
        spec = translation.multiplied(translation.spec_of(asked), asked)
        job = await submit.create(service, caller, spec, ask, _warnings(asked.integrations or []))
    except ApiError as refusal:
        if refusal.status_code in {404, 422}:
            refusal.status_code = 400
        raise
    return await to_thread.run_sync(show, service, caller, job.id)


def _warnings(integrations: Sequence[Integration]) -> dict[str, str]:
    """Return the warning about integrations for the job's log, if the request has any."""
    if not integrations:
        return {}
    named = ", ".join(sorted({integration.type for integration in integrations}))
    return {
        "integrations": f"integrations ({named}) are accepted but not supported: nothing of this job is sent to them"
    }


def find(session: Session, caller: Caller, job_id: str) -> Job:
    """Return a training job of the project. Raises ApiError 404 when there is none."""
    job = jobs.get(session, caller.project_id, job_id)
    if job is None or job.kind not in translation.METHODS:
        raise not_found("job", job_id)
    return job


def show(service: Service, caller: Caller, job_id: str) -> FineTuningJob:
    with service.database.read() as session:
        return _shown(session, caller, [find(session, caller, job_id)])[0]


def page(
    service: Service, caller: Caller, *, after: str | None, limit: int, metadata: dict[str, str] | None
) -> Page[FineTuningJob]:
    with service.database.read() as session:
        rows, has_more = jobs.page(
            session, caller.project_id, after=after, limit=limit, kinds=translation.METHODS, metadata=metadata
        )
        return Page.of(_shown(session, caller, rows), has_more)


def _shown(session: Session, caller: Caller, rows: Sequence[Job]) -> list[FineTuningJob]:
    project = _project(session, caller)
    _, made = artifacts.of_jobs(session, rows, kinds=_MADE)
    of_job = {row.id: [artifact for artifact in made if artifact.job_id == row.id] for row in rows}
    return [translation.job_object(session, row, of_job[row.id], project) for row in rows]


def order(service: Service, caller: Caller, job_id: str, verb: str) -> FineTuningJob:
    """Cancel, pause or resume a job.

    Raises:
        ApiError: 404, or 409 where the state of the job does not allow it, which clients do not retry.
    """
    with service.database.read() as session:
        find(session, caller, job_id)
    _ORDERS[verb](service, caller, job_id)
    return show(service, caller, job_id)


def events(service: Service, caller: Caller, job_id: str, *, after: str | None, limit: int) -> Page[FineTuningEvent]:
    """Return a page of events and of the metrics of steps, newest first."""
    with service.database.read() as session:
        find(session, caller, job_id)
        before = None if after is None else int(after.removeprefix(_EVENT))
        rows, has_more = records.newest(session, job_id, before=before, limit=limit)
        return Page.of([translation.event_object(row) for row in rows], has_more)


def checkpoints(
    service: Service, caller: Caller, job_id: str, *, after: str | None, limit: int
) -> Page[FineTuningCheckpoint]:
    with service.database.read() as session:
        find(session, caller, job_id)
        rows, has_more = artifacts.page(
            session, caller.project_id, kinds=("checkpoint",), job_id=job_id, after=after, limit=limit
        )
        losses: dict[int, Any] = records.values_at(session, job_id, "loss", [row.step for row in rows])
        project = _project(session, caller)
        return Page.of([translation.checkpoint_object(row, project, losses.get(row.step)) for row in rows], has_more)


def _project(session: Session, caller: Caller) -> Project:
    project = projects.get(session, caller.project_id)
    assert project is not None, "the caller's key belongs to it"
    return project
