"""Files: the data that projects have uploaded, or that their jobs have left."""

import time

from sqlalchemy import String, bindparam, cast, select, update
from sqlalchemy.orm import Session

from db import paging
from db.errors import InUse
from db.ids import new_id
from db.models import File, Job
from db.state import ENDED

# Built once: constructing a statement costs more than running it.
_GET = select(File).where(
    File.id == bindparam("of_file"), File.project_id == bindparam("of_project"), File.deleted_at.is_(None)
)
_KEEP = _GET.with_for_update(read=True)
_END = _GET.with_for_update()


def add(
    s: Session,
    project_id: str,
    *,
    filename: str,
    purpose: str,
    size_bytes: int,
    sha256: str,
    format: str,  # noqa: A002 - the column's name
    row_count: int,
    expires_after_s: float | None = None,
    key_id: str | None = None,
) -> File:
    """Create a file whose bytes are already the blob `sha256`; the reaper deletes it after `expires_after_s`."""
    now = time.time()
    file = File(
        id=new_id("file"),
        project_id=project_id,
        filename=filename,
        purpose=purpose,
        size_bytes=size_bytes,
        sha256=sha256,
        format=format,
        row_count=row_count,
        key_id=key_id,
        created_at=now,
        expires_at=None if expires_after_s is None else now + expires_after_s,
    )
    s.add(file)
    s.flush()
    return file


def get(s: Session, project_id: str, file_id: str) -> File | None:
    """Return the project's file with this id, or None if there is none or it is deleted."""
    return s.scalars(_GET, {"of_file": file_id, "of_project": project_id}).one_or_none()


def keep(s: Session, project_id: str, file_id: str) -> File | None:
    """Return the file like `get`, locked against deletion until the commit, for creating a job that names it."""
    return s.scalars(_KEEP, {"of_file": file_id, "of_project": project_id}).one_or_none()


def page(
    s: Session,
    project_id: str,
    *,
    after: str | None,
    limit: int,
    order: paging.Order = "desc",
    purpose: str | None = None,
) -> tuple[list[File], bool]:
    """Return files in the order of their ids, and whether more follow."""
    query = select(File).where(File.project_id == project_id, File.deleted_at.is_(None))
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    return paging.page(s, query, File.id, after=after, limit=limit, order=order)


def delete(s: Session, project_id: str, file_id: str) -> bool:
    """Delete a file and return whether there was one. The row stays, hidden, so that lineage can name it.

    Raises:
        InUse: an unfinished job names the file in its spec.
    """
    # The lock waits for transactions that are creating jobs with the file, so those jobs are found below.
    if s.scalars(_END, {"of_file": file_id, "of_project": project_id}).one_or_none() is None:
        return False
    naming = select(Job.id).where(
        Job.project_id == project_id,
        Job.state.not_in(ENDED),
        cast(Job.spec, String).contains(f'"{file_id}"', autoescape=True),
    )
    if job_ids := list(s.scalars(naming.order_by(Job.id))):
        raise InUse(file_id, job_ids)
    s.execute(update(File).where(File.id == file_id).values(deleted_at=time.time()))
    return True


def expired(s: Session, limit: int, after: str = "") -> list[tuple[str, str]]:
    """Return (project id, file id) of expired files with ids greater than `after`, in the order of their ids."""
    # The id as an expression: by the column itself, SQLite would read all files in the order of their ids.
    file_id = File.id.concat("")
    over = select(File.project_id, File.id).where(File.expires_at <= time.time(), File.deleted_at.is_(None))
    return [(row.project_id, row.id) for row in s.execute(over.where(file_id > after).order_by(file_id).limit(limit))]
