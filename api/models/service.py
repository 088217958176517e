"""Models, adapters and checkpoints: finding and deleting them, their files and their lineage."""

from collections.abc import Sequence
from typing import NamedTuple

from api.answers import Deleted, Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, conflict, not_found
from api.models.schemas import (
    ArtifactObject,
    Lineage,
    Manifest,
    ManifestFile,
    ModelObject,
    SignedManifest,
    ancestor,
    artifact_object,
    evaluation,
    model_object,
    reference,
)
from api.models.statement import signed
from db import artifacts, audit, fine_tuned_names, jobs, projects, registry
from db.archives import Member
from db.lineage import ancestors, checkpoints, deleted_files, descendants, evaluations
from db.models import Artifact
from db.session import Session


class Noun(NamedTuple):
    """A collection in the API: its path, the name of one member, and the kinds of artifacts that it lists.

    A name in its paths means an artifact of the first kind. `page_size` is the default length of a page: OpenAI's
    clients never request a second page of models.
    """

    path: str
    singular: str
    kinds: tuple[str, ...]
    shown: type[ArtifactObject] = ArtifactObject
    page_size: int = 20


MODELS = Noun("models", "model", ("model", "adapter"), ModelObject, 1000)
NOUNS = (MODELS, Noun("adapters", "adapter", ("adapter",)), Noun("checkpoints", "checkpoint", ("checkpoint",)))


def page(
    service: Service,
    caller: Caller,
    noun: Noun,
    *,
    name: str | None,
    job_id: str | None,
    after: str | None,
    limit: int,
    kind: str | None = None,
) -> Page[ArtifactObject]:
    with service.database.read() as session:
        last = artifacts.resolve(session, caller.project_id, after, kinds=noun.kinds) if after else None
        kinds = [listed for listed in noun.kinds if kind in {None, listed}]
        rows, has_more = artifacts.page(
            session, caller.project_id, kinds=kinds, name=name, job_id=job_id,
            after=last.id if last else after, limit=limit,
        )  # fmt: skip
        return Page.of(_shown(session, caller, noun, rows), has_more)


def _shown(session: Session, caller: Caller, noun: Noun, rows: Sequence[Artifact]) -> list[ArtifactObject]:
    if noun is not MODELS:
        return [artifact_object(row) for row in rows]
    project = projects.get(session, caller.project_id)
    assert project is not None, "the caller's key belongs to it"
    return [model_object(row, project) for row in rows]


def find(session: Session, caller: Caller, noun: Noun, wanted: str) -> Artifact:
    """Return the artifact that a reference names; `name` alone means its newest version.

    Raises:
        ApiError: 404 when the collection has no such artifact.
    """
    kinds = noun.kinds if wanted.startswith(fine_tuned_names.PREFIX) else noun.kinds[:1]
    artifact = artifacts.resolve(session, caller.project_id, wanted, kinds=kinds)
    if artifact is None:
        raise not_found(noun.singular, wanted)
    return artifact


def show(service: Service, caller: Caller, noun: Noun, wanted: str) -> ArtifactObject:
    with service.database.read() as session:
        return _shown(session, caller, noun, [find(session, caller, noun, wanted)])[0]


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


def signed_manifest(service: Service, caller: Caller, noun: Noun, wanted: str) -> SignedManifest:
    """Return the manifest with a signed statement of the artifact's origin."""
    files = manifest(service, caller, noun, wanted)
    with service.database.read() as session:
        artifact = find(session, caller, noun, files.id)
        job = None if artifact.job_id is None else jobs.find(session, artifact.job_id)
        base = next(iter(ancestors(session, artifact)), None)
    return signed(service, files, artifact, job, base)


_NAMED_ALIASES = 5
"""The most aliases that an error names."""
_MOST_RELATED = 50
"""The most checkpoints, descendants and evaluations that a lineage lists."""


def lineage(service: Service, caller: Caller, noun: Noun, wanted: str) -> Lineage:
    """Return the lineage of an artifact, which may be deleted if it is named by its id."""
    with service.database.read() as session:
        gone = artifacts.recorded(session, caller.project_id, wanted)
        known = gone is not None and gone.kind in noun.kinds[:1]
        artifact = gone if gone is not None and known else find(session, caller, noun, wanted)
        above = ancestors(session, artifact)
        files = {
            file["id"]
            for one in (artifact, *above)
            if one.project_id == caller.project_id
            for file in one.lineage.get("files", [])
        }
        saved = [] if artifact.job_id is None else checkpoints(session, artifact.job_id, _MOST_RELATED)
        return Lineage(
            **ancestor(artifact).model_dump(),
            ancestors=[ancestor(row, ours=row.project_id == caller.project_id) for row in above],
            checkpoints=[ancestor(row) for row in saved],
            descendants=[ancestor(row) for row in descendants(session, artifact, _MOST_RELATED)],
            evaluations=[evaluation(job) for job in evaluations(session, artifact, _MOST_RELATED)],
            deleted_files=deleted_files(session, caller.project_id, files),
        )


def member(manifest: Manifest, path: str) -> ManifestFile:
    """Return the file with exactly that path; paths are looked up in the manifest, never resolved on disk."""
    for file in manifest.files:
        if file.path == path:
            return file
    raise ApiError(404, "file_not_found", f"{manifest.reference} has no file {path[:100]!r}; its manifest lists them")


def members(manifest: Manifest) -> list[Member]:
    return [Member(file.path, file.sha256, file.size_bytes) for file in manifest.files]


def delete(service: Service, caller: Caller, noun: Noun, wanted: str) -> Deleted:
    with service.database.write() as session:
        artifact = find(session, caller, noun, wanted)
        (shown,) = _shown(session, caller, noun, [artifact])
        registry.lock(session, caller.project_id)
        if aliases := registry.of_artifact(session, artifact):
            more = f" and {len(aliases) - _NAMED_ALIASES:,} more" if len(aliases) > _NAMED_ALIASES else ""
            named = ", ".join(aliases[:_NAMED_ALIASES]) + more
            verb = "means" if len(aliases) == 1 else "mean"
            mend = "promote another version first"
            raise conflict("in_use", f"{named} {verb} {reference(artifact)} or an adapter on it; {mend}")
        if not artifacts.delete(session, caller.project_id, artifact.id):
            raise not_found(noun.singular, wanted)
        audit.note(session, f"{noun.singular}.delete", artifact.id)
    return Deleted(id=shown.id, object=shown.object)
