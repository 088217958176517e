"""From a job's row to the object that the API shows."""

from collections.abc import Sequence
from typing import Any

from api.jobs.schemas import ArtifactSummary, JobError, JobObject, JobResult
from db import artifacts, attempts, clock, jobs
from db.models import Artifact, Job
from db.session import Session
from db.state import ENDED, JobState

_MADE = ("model", "adapter")
_UNSENT_S = 5.0


def job_object(session: Session, job: Job) -> JobObject:
    """The job with what belongs to it, as the session sees it."""
    return job_objects(session, [job])[0]


def job_objects(session: Session, rows: Sequence[Job]) -> list[JobObject]:
    """The same for a page of jobs; what they start from and what they made takes two queries for all of them."""
    bases, made = artifacts.of_jobs(session, rows, kinds=_MADE)
    positions = [jobs.queue_position(session, job) for job in rows]
    return [
        _job_object(session, job, position, bases.get(job.base_artifact_id or ""), made)
        for job, position in zip(rows, positions, strict=True)
    ]


def fresh_objects(session: Session, rows: Sequence[Job]) -> list[JobObject]:
    """The same for jobs that this transaction made: the queue is counted once for all of them."""
    bases, _ = artifacts.of_jobs(session, rows, kinds=_MADE)
    positions = jobs.queue_positions(session, rows)
    return [_job_object(session, job, positions[job.id], bases.get(job.base_artifact_id or ""), []) for job in rows]


def _job_object(
    session: Session, job: Job, position: int | None, base: Artifact | None, made: list[Artifact]
) -> JobObject:
    progress = job.progress or {}
    return JobObject.model_validate(
        {
            "id": job.id,
            "kind": job.kind,
            "status": job.state,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "spec": job.spec,
            "base": None if base is None else summary(base),
            "attempt": job.fence,
            "step": job.step,
            "total_steps": job.total_steps,
            "progress": progress,
            "eta_s": progress.get("eta_s") if job.state == JobState.RUNNING else None,
            "queue_position": position,
            "waiting_reason": _waiting_reason(session, job, position),
            "cancel_requested": job.cancel_requested_at is not None,
            "error": _error(job),
            "result": None if job.result is None else _result(job.result),
            "result_files": (job.result or {}).get("files", []),
            "artifacts": [summary(artifact) for artifact in made if artifact.job_id == job.id],
        }
    )


def summary(artifact: Artifact) -> ArtifactSummary:
    return ArtifactSummary.model_validate(
        {
            "id": artifact.id,
            "kind": artifact.kind,
            "name": artifact.name,
            "version": artifact.version,
            "digest": artifact.digest,
        }
    )


def _result(result: dict[str, Any]) -> JobResult:
    return JobResult(metrics=result.get("metrics", {}), groups=result.get("groups", {}))


def _error(job: Job) -> JobError | None:
    if job.failure_class is None or job.state != JobState.FAILED:
        return None
    return JobError.model_validate(
        {
            "class": job.failure_class,
            "code": job.error_code,
            "message": job.error_message,
            "mend": job.error_mend,
        }
    )


def _waiting_reason(session: Session, job: Job, position: int | None) -> str | None:
    """One sentence on why a job is not running, or still is."""
    if job.cancel_requested_at is not None and job.state not in ENDED:
        return "it has been asked to stop; the worker stops it at its next heartbeat"
    if job.state == JobState.PAUSED:
        return "it is paused until it is resumed"
    return None if position is None else _queued_reason(session, job, position)


def _queued_reason(session: Session, job: Job, position: int) -> str:
    now = clock.now(session)
    if job.not_before is not None and job.not_before > now:
        why = attempts.last_words(session, job) or f"attempt {job.fence} ended early"
        return f"{why}; the next attempt starts in {job.not_before - now:.0f} s"
    if position > 1:
        return "1 job goes first" if position == 2 else f"{position - 1} jobs go first"
    if job.dispatched_at is None and now - job.created_at > _UNSENT_S:
        return "the broker has not taken its message yet; it is sent again until it does"
    return "it is next: the first free worker takes it"
