"""Uploads: files that arrive in parts, until they are completed or cancelled."""

import time

from sqlalchemy import delete, func, literal_column, select
from sqlalchemy.orm import Session

from db.blobs import Blob
from db.ids import new_id
from db.models import Upload, UploadPart

OPEN_S = 3600.0
"""How long an upload accepts parts and can be completed."""
# The state is spelled out: a parameter would keep SQLite from the partial index.
IS_PENDING = Upload.state == literal_column("'pending'")


def add(
    s: Session, project_id: str, *, filename: str, purpose: str, size_bytes: int, file_expires_after_s: int | None
) -> Upload:
    """Create an upload without parts."""
    now = time.time()
    upload = Upload(
        id=new_id("upload"), project_id=project_id, filename=filename, purpose=purpose, size_bytes=size_bytes,
        file_expires_after_s=file_expires_after_s, state="pending", created_at=now, expires_at=now + OPEN_S,
    )  # fmt: skip
    s.add(upload)
    s.flush()
    return upload


def get(s: Session, project_id: str, upload_id: str) -> Upload | None:
    """Return the project's upload with this id."""
    return s.scalars(select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)).one_or_none()


def lock(s: Session, project_id: str, upload_id: str) -> Upload | None:
    """Return the upload like `get`, locked until the commit."""
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)
    return s.scalars(query.with_for_update(), execution_options={"populate_existing": True}).one_or_none()


def add_part(s: Session, upload: Upload, blob: Blob) -> UploadPart:
    """Add a part whose bytes are already stored as the blob."""
    part = UploadPart(
        id=new_id("part"),
        upload_id=upload.id,
        sha256=blob.sha256,
        size_bytes=blob.size_bytes,
        created_at=time.time(),
    )
    s.add(part)
    s.flush()
    return part


def parts(s: Session, upload_id: str) -> dict[str, UploadPart]:
    """Return the received parts by id."""
    return {part.id: part for part in s.scalars(select(UploadPart).where(UploadPart.upload_id == upload_id))}


def received(s: Session, upload_id: str) -> tuple[int, int]:
    """Return the number of received parts and the sum of their bytes."""
    total = select(func.count(), func.coalesce(func.sum(UploadPart.size_bytes), 0))
    count, size_bytes = s.execute(total.where(UploadPart.upload_id == upload_id)).one()
    return count, int(size_bytes)


def end(s: Session, upload: Upload, state: str, file_id: str | None = None) -> Upload:
    """Complete or cancel an upload."""
    upload.state, upload.file_id = state, file_id
    s.flush()
    return upload


def drop_parts(s: Session, upload: Upload) -> None:
    """Delete the rows of an upload's parts, so that they no longer refer to their blobs.

    From then on only the age of those blobs keeps them for a backup that is under way.
    """
    s.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))


def forget_expired(s: Session, kept_s: float, limit: int) -> int:
    """Drop at most `limit` parts of uploads that expired `kept_s` ago, and return their number.

    Until then a backup may still copy their bytes.
    """
    late = select(Upload.id).where(IS_PENDING, Upload.expires_at <= time.time() - kept_s)
    old = select(UploadPart.id).where(UploadPart.upload_id.in_(late)).limit(limit)
    gone = delete(UploadPart).where(UploadPart.id.in_(old)).returning(UploadPart.id)
    return len(s.scalars(gone, execution_options={"synchronize_session": False}).all())
