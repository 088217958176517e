"""Models, adapters and checkpoints: finding them, and what they are made of."""

from typing import NamedTuple

from api.answers import Deleted, Page
from api.auth import Caller
from api.deps import Service
from api.downloads import Member
from api.errors import ApiError, not_found
from api.models.schemas import (
    ArtifactObject,
    Lineage,
    Manifest,
    ManifestFile,
    ancestor,
    artifact_object,
    reference,
)
from db import artifacts
from db.lineage import ancestors
from db.models import Artifact
from db.session import Session


class Noun(NamedTuple):
    """A collection in the API, what one of it is called, and which kind of artifact is in it."""

    path: str
    singular: str
    kind: str


NOUNS = (
    Noun("models", "model", "model"),
    Noun("adapters", "adapter", "adapter"),
    Noun("checkpoints", "checkpoint", "checkpoint"),
)


def page(
    service: Service,
    caller: Caller,
    noun: Noun,
    *,
    name: str | None,
    job_id: str | None,
    after: str | None,
    limit: int,
) -> Page[ArtifactObject]:
    with service.database.read() as session:
        rows, has_more = artifacts.page(
            session, caller.project_id, kinds=(noun.kind,), name=name, job_id=job_id, after=after, limit=limit
        )
        return Page.of([artifact_object(row) for row in rows], has_more)


def find(session: Session, caller: Caller, noun: Noun, wanted: str) -> Artifact:
    """The artifact that a reference names; `name` alone is its newest version.

    Raises:
        ApiError: 404 when the collection has none of that name, version or id.
    """
    artifact = artifacts.resolve(session, caller.project_id, wanted, kinds=(noun.kind,))
    if artifact is None:
        raise not_found(noun.singular, wanted)
    return artifact


def show(service: Service, caller: Caller, noun: Noun, wanted: str) -> ArtifactObject:
    with service.database.read() as session:
        return artifact_object(find(session, caller, noun, wanted))


def manifest(service: Service, caller: Caller, noun: Noun, wanted: str) -> Manifest:
    with service.database.read() as session:
        artifact = find(session, caller, noun, wanted)
        rows = artifacts.files(session, artifact.id)
    files = [ManifestFile(path=row.path, sha256=row.sha256, size_bytes=row.size_bytes) for row in rows]
    return Manifest(
        id=artifact.id,
        reference=reference(artifact),
        digest=artifact.digest,
        size_bytes=artifact.size_bytes,
        files=sorted(files, key=lambda file: file.path),
    )


def lineage(service: Service, caller: Caller, noun: Noun, wanted: str) -> Lineage:
    with service.database.read() as session:
        artifact = find(session, caller, noun, wanted)
        rows = [ancestor(row) for row in ancestors(session, artifact)]
    return Lineage(id=artifact.id, reference=reference(artifact), lineage=artifact.lineage, ancestors=rows)


def member(manifest: Manifest, path: str) -> ManifestFile:
    """The file of that very path; paths are looked up, never walked."""
    for file in manifest.files:
        if file.path == path:
            return file
    raise ApiError(404, "file_not_found", f"{manifest.reference} has no file {path[:100]!r}; its manifest lists them")


def members(manifest: Manifest) -> list[Member]:
    return [Member(file.path, file.sha256, file.size_bytes) for file in manifest.files]


def delete(service: Service, caller: Caller, noun: Noun, wanted: str) -> Deleted:
    with service.database.write() as session:
        artifact = find(session, caller, noun, wanted)
        if not artifacts.delete(session, caller.project_id, artifact.id):
            raise not_found(noun.singular, wanted)
    return Deleted(id=artifact.id, object="artifact")
