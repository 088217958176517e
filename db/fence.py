"""The fence: what a worker's write must show to count.

Every claim of a job raises `jobs.fence`, and the claimant carries that number in all it writes. A
worker that was given up and comes back carries an old number: its statements match no row.
"""

from typing import NamedTuple

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from db import clock
from db.models import Job
from db.state import HELD


class Renewal(NamedTuple):
    """The lease was renewed; the job is to stop for good, or to save a checkpoint and be let go."""

    cancel_requested: bool = False
    let_go_requested: bool = False


def held(job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    """That the job is still held under this fence."""
    return Job.id == job_id, Job.fence == fence, Job.state.in_(HELD)


def live(s: Session, job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    """That the job is held under this fence and the lease has not run out.

    What a run writes while it goes on needs this: a worker that slept past its lease writes
    nothing, even before anyone has taken the job from it. Giving the job up or settling it needs
    `held` alone, for that is what is done to a lease that ran out.
    """
    return *held(job_id, fence), Job.lease_expires_at > clock.moment(s)
