"""Orders: cancelling, pausing, resuming and retrying a job on its owner's request."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from db import attempts, clock, jobs, outbox, records
from db.models import Job
from db.state import ENDED, JobState

_CLEARED = {
    "failures": 0,
    "cancel_requested_at": None,
    "failure_class": None,
    "error_code": None,
    "error_message": None,
    "error_mend": None,
}
"""Columns that a manual retry resets; the failure remains in the job's attempts and events."""
_FRESH = {"synchronize_session": False, "populate_existing": True}


def cancel(s: Session, project_id: str, job_id: str) -> Job | None:
    """Cancel a job: at once if no worker holds it, otherwise when its worker next renews the lease.

    An ended job stays as it is. Returns None if the project has no such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.state in ENDED or job.cancel_requested_at is not None:
        return job
    requested = {"cancel_requested_at": clock.moment(s)}
    if job.state in {JobState.QUEUED, JobState.PAUSED}:
        return jobs.transition(s, job_id, JobState.CANCELLED, message=f"cancelled while {job.state}", changes=requested)
    flagged = update(Job).where(Job.id == job_id).values(requested).returning(Job)
    job = s.scalars(flagged, execution_options=_FRESH).one()
    records.note(s, job_id, "cancel_requested", "info", "cancellation requested")
    return job


def pause(s: Session, project_id: str, job_id: str) -> Job | None:
    """Pause a job until it is resumed: a running job saves a checkpoint first, any other is paused at once.

    A job that is paused or pausing, has ended or is being cancelled stays as it is. Returns None if the project has no
    such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.cancel_requested_at is not None:
        return job
    match JobState(job.state):
        case JobState.RUNNING:
            return jobs.transition(
                s, job_id, JobState.PAUSING, message="pause requested: the job saves a checkpoint first"
            )
        case JobState.PREPARING:
            # The worker finds at its next write that it no longer holds the job; nothing has been trained yet.
            attempts.end(s, job_id, job.fence, outcome=JobState.PAUSED.value, message="paused before it ran")
            return jobs.transition(s, job_id, JobState.PAUSED, message="paused before it ran")
        case JobState.QUEUED:
            return jobs.transition(s, job_id, JobState.PAUSED, message="paused while waiting")
        case _:
            return job


def resume(s: Session, project_id: str, job_id: str) -> Job | None:
    """Queue a paused job again, or withdraw the pause of a job that is still pausing.

    If its worker has already asked the engine to stop, the job is queued again when it is released. Any other job stays
    as it is. Returns None if the project has no such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.cancel_requested_at is not None:
        return job
    match JobState(job.state):
        case JobState.PAUSING:
            return jobs.transition(s, job_id, JobState.RUNNING, message="resumed before it had paused")
        case JobState.PAUSED:
            outbox.add(s, job_id)
            return jobs.transition(s, job_id, JobState.QUEUED, message="resumed, waiting for a worker")
        case _:
            return job


def retry(s: Session, project_id: str, job_id: str) -> Job | None:
    """Queue a failed job again: it resumes from its newest checkpoint, and its failures are counted from zero.

    Any other job stays as it is. Returns None if the project has no such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.state != JobState.FAILED:
        return job
    outbox.add(s, job_id)
    return jobs.transition(
        s, job_id, JobState.QUEUED, message="retried on request, waiting for a worker", changes=_CLEARED
    )
