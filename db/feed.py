"""The feed: one look at many jobs for whoever follows them."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Job


def heads(s: Session, job_ids: Collection[str]) -> dict[str, tuple[int, str]]:
    """The newest number and the state of each job, in one query; unknown jobs are absent."""
    if not job_ids:
        return {}
    rows = s.execute(select(Job.id, Job.last_seq, Job.state).where(Job.id.in_(job_ids)))
    return {job_id: (last_seq, state) for job_id, last_seq, state in rows}
