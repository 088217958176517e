"""Orders: what its owner asks of a job while it waits or runs."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from db import attempts, clock, jobs, outbox, records
from db.models import Job
from db.state import ENDED, JobState

_ANEW = {
    "failures": 0,
    "cancel_requested_at": None,
    "failure_class": None,
    "error_code": None,
    "error_message": None,
    "error_mend": None,
}
"""Of a job that is tried again by hand nothing of its failure stays but what its attempts and events tell."""
_FRESH = {"synchronize_session": False, "populate_existing": True}


def cancel(s: Session, project_id: str, job_id: str) -> Job | None:
    """Ask a job to stop: one that nobody holds is cancelled here and now, a held one when its worker next renews.

    An ended job stays as it is. None when the project has no such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.state in ENDED or job.cancel_requested_at is not None:
        return job
    asked = {"cancel_requested_at": clock.moment(s)}
    if job.state in {JobState.QUEUED, JobState.PAUSED}:
        return jobs.transition(s, job_id, JobState.CANCELLED, message=f"cancelled while {job.state}", changes=asked)
    flagged = update(Job).where(Job.id == job_id).values(asked).returning(Job)
    job = s.scalars(flagged, execution_options=_FRESH).one()
    records.note(s, job_id, "cancel_requested", "info", "asked to stop")
    return job


def pause(s: Session, project_id: str, job_id: str) -> Job | None:
    """Ask a job to wait until it is resumed: one that runs saves a checkpoint first, any other is paused at once.

    A job that is paused or pausing, has ended or is to be cancelled stays as it is. None when the project has no
    such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.cancel_requested_at is not None:
        return job
    match JobState(job.state):
        case JobState.RUNNING:
            return jobs.transition(s, job_id, JobState.PAUSING, message="asked to pause: it saves a checkpoint first")
        case JobState.PREPARING:
            # Its worker finds at its next write that the job is no longer held, and nothing has been trained yet.
            attempts.end(s, job_id, job.fence, outcome=JobState.PAUSED.value, message="paused before it ran")
            return jobs.transition(s, job_id, JobState.PAUSED, message="paused before it ran")
        case JobState.QUEUED:
            return jobs.transition(s, job_id, JobState.PAUSED, message="paused while waiting")
        case _:
            return job


def resume(s: Session, project_id: str, job_id: str) -> Job | None:
    """Queue a paused job again; of one that is still pausing, take the pause back.

    Its worker may have asked the engine to stop by then: the job is then queued again as it is let go. Any other job
    stays as it is. None when the project has no such job.
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
    """Queue a failed job again: it goes on from its newest checkpoint, its failures are counted anew.

    Any other job stays as it is. None when the project has no such job.
    """
    job = jobs.lock(s, project_id, job_id)
    if job is None or job.state != JobState.FAILED:
        return job
    outbox.add(s, job_id)
    return jobs.transition(
        s, job_id, JobState.QUEUED, message="tried again by hand, waiting for a worker", changes=_ANEW
    )
