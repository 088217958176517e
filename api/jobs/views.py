"""Jobs as the API shows them, from their rows and what belongs to them."""

from collections.abc import Sequence
from typing import Any

from api.jobs.schemas import ArtifactSummary, JobError, JobObject, JobResult
from api.jobs.waiting import Wait, waits
from api.plans.outcomes import job_plan
from db import artifacts, plans
from db.models import Artifact, Job, Plan
from db.session import Session
from db.state import JobState

_MADE = ("model", "adapter")


def job_object(session: Session, job: Job) -> JobObject:
    """Return the job with what belongs to it, as the session sees it."""
    return job_objects(session, [job])[0]


def job_objects(session: Session, rows: Sequence[Job], *, fresh: bool = False) -> list[JobObject]:
    """Return jobs with what belongs to them: two queries find what all of them start from and what they made.

    `fresh` says that this transaction made the jobs; the queue is then counted once for all of them.
    """
    bases, made = artifacts.of_jobs(session, rows, kinds=_MADE)
    followed = plans.of_jobs(session, {job.plan_id for job in rows if job.plan_id})
    standing = zip(rows, waits(session, rows, fresh=fresh), strict=True)
    return [_job_object(job, wait, bases.get(job.base_artifact_id or ""), made, followed) for job, wait in standing]


def _job_object(
    job: Job, wait: Wait, base: Artifact | None, made: list[Artifact], followed: dict[str, Plan]
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
            "queue_position": wait.position,
            "waiting_reason": wait.reason,
            "estimated_start_at": wait.starts_at,
            "cancel_requested": job.cancel_requested_at is not None,
            "error": _error(job),
            "result": None if job.result is None else _result(job.result),
            "result_files": (job.result or {}).get("files", []),
            "plan": job_plan(job, followed.get(job.plan_id or "")),
            "artifacts": [summary(artifact) for artifact in made if artifact.job_id == job.id],
            "last_seq": job.last_seq,
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
