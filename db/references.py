"""References: which blobs the database names."""

import time
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Artifact, ArtifactFile, File, Upload, UploadPart

_AT_ONCE = 1000


def named(s: Session, hashes: Sequence[str], since: float) -> set[str]:
    """Those of the hashes that a file, an artifact or an unfinished upload of any project has, or had after `since`.

    What was deleted or expired since then still names its blobs, for a backup that began before may yet want them.
    """
    found: set[str] = set()
    for start in range(0, len(hashes), _AT_ONCE):
        some = hashes[start : start + _AT_ONCE]
        found.update(s.scalars(select(File.sha256).where(File.sha256.in_(some), _there(File.deleted_at, since))))
        parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
        found.update(s.scalars(parts.where(ArtifactFile.sha256.in_(some), _there(Artifact.deleted_at, since))))
        found.update(s.scalars(_open_parts(since).where(UploadPart.sha256.in_(some))))
    return found


def every(s: Session) -> set[str]:
    """The blobs of all files and artifacts that are not deleted, and of unfinished uploads."""
    data = select(File.sha256).where(File.deleted_at.is_(None))
    parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
    return {
        *s.scalars(data),
        *s.scalars(parts.where(Artifact.deleted_at.is_(None))),
        *s.scalars(_open_parts(time.time())),
    }


def any_named(s: Session) -> bool:
    """Whether there is a file or an artifact at all."""
    data = select(File.id).where(File.deleted_at.is_(None))
    made = select(Artifact.id).where(Artifact.deleted_at.is_(None))
    return any(s.scalars(query.limit(1)).first() for query in (data, made))


def _there(deleted_at: InstrumentedAttribute[float | None], since: float) -> ColumnElement[bool]:
    """That it is not deleted, or was not yet at that moment."""
    return or_(deleted_at.is_(None), deleted_at > since)


def _open_parts(since: float) -> Select[str]:
    """The parts of uploads that could still be completed at that moment."""
    parts = select(UploadPart.sha256).join(Upload, Upload.id == UploadPart.upload_id)
    return parts.where(Upload.state == "pending", Upload.expires_at > since)


def naming(s: Session, sha256: str) -> list[str]:
    """The ids of what `every` finds this blob in."""
    data = select(File.id).where(File.sha256 == sha256, File.deleted_at.is_(None))
    parts = select(Artifact.id).join(ArtifactFile, Artifact.id == ArtifactFile.artifact_id)
    parts = parts.where(ArtifactFile.sha256 == sha256, Artifact.deleted_at.is_(None))
    open_parts = select(UploadPart.upload_id).where(UploadPart.sha256 == sha256)
    return sorted({*s.scalars(data), *s.scalars(parts), *s.scalars(open_parts)})
