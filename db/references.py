"""References: which blobs the database names."""

import time
from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from db.models import Artifact, ArtifactFile, File, Upload, UploadPart

_AT_ONCE = 1000


def named(s: Session, hashes: Sequence[str]) -> set[str]:
    """Those of the hashes that a file, an artifact or an unfinished upload of any project has and that is not deleted."""
    found: set[str] = set()
    for start in range(0, len(hashes), _AT_ONCE):
        some = hashes[start : start + _AT_ONCE]
        found.update(s.scalars(select(File.sha256).where(File.sha256.in_(some), File.deleted_at.is_(None))))
        parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
        found.update(s.scalars(parts.where(ArtifactFile.sha256.in_(some), Artifact.deleted_at.is_(None))))
        found.update(s.scalars(_open_parts().where(UploadPart.sha256.in_(some))))
    return found


def every(s: Session) -> set[str]:
    """The blobs of all files and artifacts that are not deleted, and of unfinished uploads."""
    data = select(File.sha256).where(File.deleted_at.is_(None))
    parts = select(ArtifactFile.sha256).join(Artifact, Artifact.id == ArtifactFile.artifact_id)
    return {*s.scalars(data), *s.scalars(parts.where(Artifact.deleted_at.is_(None))), *s.scalars(_open_parts())}


def _open_parts() -> Select[str]:
    """The parts of uploads that may still be completed."""
    parts = select(UploadPart.sha256).join(Upload, Upload.id == UploadPart.upload_id)
    return parts.where(Upload.state == "pending", Upload.expires_at > time.time())


def naming(s: Session, sha256: str) -> list[str]:
    """The ids of what `every` finds this blob in."""
    data = select(File.id).where(File.sha256 == sha256, File.deleted_at.is_(None))
    parts = select(Artifact.id).join(ArtifactFile, Artifact.id == ArtifactFile.artifact_id)
    parts = parts.where(ArtifactFile.sha256 == sha256, Artifact.deleted_at.is_(None))
    open_parts = select(UploadPart.upload_id).where(UploadPart.sha256 == sha256)
    return sorted({*s.scalars(data), *s.scalars(parts), *s.scalars(open_parts)})
