"""Fencing: the condition on every write of a worker that it still holds the job.

Every claim of a job raises `jobs.fence`, and the claimant passes that number with all its writes. A worker that was
given up and comes back passes an old number, so that its statements match no row.
"""

from typing import NamedTuple

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from db import clock
from db.models import Job
from db.state import HELD


class Renewal(NamedTuple):
    """A renewed lease, and whether the job is to be cancelled, or to save a checkpoint and be released."""

    cancel_requested: bool = False
    let_go_requested: bool = False


def held(job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that the job is still held under this fence."""
    return Job.id == job_id, Job.fence == fence, Job.state.in_(HELD)


def live(s: Session, job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that the job is held under this fence and its lease has not expired.

    The writes of a run need both: a worker that slept past its lease writes nothing, even before the job has been taken
    from it. Releasing or settling a job needs `held` alone, because that is done to expired leases too.
    """
    return *held(job_id, fence), Job.lease_expires_at > clock.moment(s)
