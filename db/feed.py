"""The feed: one query that shows which of many jobs have new records."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Job


def heads(s: Session, job_ids: Collection[str]) -> dict[str, tuple[int, str]]:
    """Return the newest record number and the state of each job; unknown jobs are absent."""
    if not job_ids:
        return {}
    rows = s.execute(select(Job.id, Job.last_seq, Job.state).where(Job.id.in_(job_ids)))
    return {job_id: (last_seq, state) for job_id, last_seq, state in rows}
