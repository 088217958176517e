"""References: the blobs that rows of the database refer to."""

import time
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Artifact, ArtifactFile, File, Upload, UploadPart

_AT_ONCE = 1000


def named(s: Session, hashes: Sequence[str], since: float) -> set[str]:
    """Return those of the hashes that a file, an artifact or an open upload refers to, or did after `since`.

    Rows deleted or expired after `since` still count, because a backup that began before may still copy their blobs.
    """
    found: set[str] = set()
    for start in range(0, len(hashes), _AT_ONCE):
        batch = hashes[start : start + _AT_ONCE]
        found.update(s.scalars(select(File.sha256).where(File.sha256.in_(batch), _there(File.deleted_at, since))))
        parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
        found.update(s.scalars(parts.where(ArtifactFile.sha256.in_(batch), _there(Artifact.deleted_at, since))))
        found.update(s.scalars(_open_parts(since).where(UploadPart.sha256.in_(batch))))
    return found


def every(s: Session) -> set[str]:
    """Return the hashes of the blobs of all files and artifacts that are not deleted, and of open uploads."""
    data = select(File.sha256).where(File.deleted_at.is_(None))
    parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
    return {
        *s.scalars(data),
        *s.scalars(parts.where(Artifact.deleted_at.is_(None))),
        *s.scalars(_open_parts(time.time())),
    }


def any_named(s: Session) -> bool:
    """Return whether any file or artifact exists."""
    data = select(File.id).where(File.deleted_at.is_(None))
    made = select(Artifact.id).where(Artifact.deleted_at.is_(None))
    return any(s.scalars(query.limit(1)).first() for query in (data, made))


def _there(deleted_at: InstrumentedAttribute[float | None], since: float) -> ColumnElement[bool]:
    """Return the condition that a row is not deleted, or was not yet at `since`."""
    return or_(deleted_at.is_(None), deleted_at > since)


def _open_parts(since: float) -> Select[str]:
    """Select the parts of uploads that could still be completed at `since`."""
    parts = select(UploadPart.sha256).join(Upload, Upload.id == UploadPart.upload_id)
    return parts.where(Upload.state == "pending", Upload.expires_at > since)


def naming(s: Session, sha256: str) -> list[str]:
    """Return the ids of the files, artifacts and uploads that refer to this blob."""
    data = select(File.id).where(File.sha256 == sha256, File.deleted_at.is_(None))
    parts = select(Artifact.id).join(ArtifactFile, Artifact.id == ArtifactFile.artifact_id)
    parts = parts.where(ArtifactFile.sha256 == sha256, Artifact.deleted_at.is_(None))
    open_parts = select(UploadPart.upload_id).where(UploadPart.sha256 == sha256)
    return sorted({*s.scalars(data), *s.scalars(parts), *s.scalars(open_parts)})
