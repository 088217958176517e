"""Models, adapters and checkpoints as the API shows them."""

from typing import Any, Literal

from pydantic import BaseModel

from api.answers import Object
from api.manifest_signing import Envelope
from db import fine_tuned_names
from db.models import Artifact, Job, Project


class Limits(BaseModel):
    """The limits of a model: tokens in one row, and different tokens; null where unknown."""

    context_length: int | None = None
    vocabulary_size: int | None = None


class ArtifactObject(Object):
    """An immutable set of files. `reference` is its name in job specs; `digest` covers all its files.

    `licence` comes from the import of the model, or of the model that it was built on. `job_id` is null for an import.
    """

    object: Literal["artifact", "model"] = "artifact"
    kind: Literal["model", "adapter", "checkpoint"]
    layout: Literal["model", "adapter"]
    reference: str
    name: str | None
    version: int | None
    job_id: str | None
    step: int
    base_artifact_id: str | None
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    licence: str | None
    limits: Limits
    digest: str
    size_bytes: int
    created_at: float


class ModelObject(ArtifactObject):
    """A model in a shape that OpenAI's clients accept. The result of a tuning job has its fine-tuned name (`ft:...`) as `id`."""

    artifact_id: str
    created: int
    owned_by: str


class ManifestFile(BaseModel):
    """One file of an artifact."""

    path: str
    sha256: str
    size_bytes: int


class Manifest(Object):
    """The files of an artifact; `digest` is the sha256 of the output of `sha256sum` for them, sorted by path."""

    object: Literal["manifest"] = "manifest"
    reference: str
    digest: str
    size_bytes: int
    files: list[ManifestFile]


class SigningKey(BaseModel):
    """The public key of the installation in PEM; `keyid` is the sha256 of its 32 bytes."""

    object: Literal["signing_key"] = "signing_key"
    algorithm: Literal["ed25519"] = "ed25519"
    keyid: str
    public_key: str


class SignedManifest(Manifest):
    """A manifest with a signed statement: files, digests of the base and of the datasets, spec, seed, code and metrics.

    The statement of an import names the uploaded files, their source and what was left out of them.
    The statement is in a DSSE envelope, signed with the Ed25519 key whose public half `GET /v1/signing-key` returns.
    """

    signed: Envelope


class Ancestor(Object):
    """An artifact in a lineage; deleted ones remain in it."""

    reference: str
    kind: Literal["model", "adapter", "checkpoint"]
    step: int
    digest: str
    job_id: str | None
    deleted: bool
    lineage: dict[str, Any]


class Evaluation(Object):
    """An evaluation job that scored an artifact."""

    name: str | None
    status: str


class Lineage(Ancestor):
    """Where an artifact comes from: what its job recorded, and its `ancestors`, nearest first.

    Its `descendants` were made from it, its `evaluations` scored it, both newest first. `checkpoints` are the last ones
    of its job, by step. `deleted_files` are the ids of recorded files that have been deleted since.
    """

    object: Literal["lineage"] = "lineage"
    ancestors: list[Ancestor]
    checkpoints: list[Ancestor]
    descendants: list[Ancestor]
    evaluations: list[Evaluation]
    deleted_files: list[str]


def reference(artifact: Artifact) -> str:
    """Return `name/version`, or the id of an artifact without a name."""
    return artifact.id if artifact.name is None else f"{artifact.name}/{artifact.version}"


def artifact_object(artifact: Artifact) -> ArtifactObject:
    return ArtifactObject.model_validate(
        {
            "id": artifact.id,
            "kind": artifact.kind,
            "layout": artifact.layout,
            "reference": reference(artifact),
            "name": artifact.name,
            "version": artifact.version,
            "job_id": artifact.job_id,
            "step": artifact.step,
            "base_artifact_id": artifact.base_artifact_id,
            "metrics": artifact.metrics,
            "lineage": artifact.lineage,
            "licence": artifact.licence,
            "limits": artifact.limits or {},
            "digest": artifact.digest,
            "size_bytes": artifact.size_bytes,
            "created_at": artifact.created_at,
        }
    )


def model_object(artifact: Artifact, project: Project) -> ModelObject:
    shown = artifact_object(artifact).model_dump()
    shown |= {"id": fine_tuned_names.name(artifact, project.name) or artifact.id, "object": "model"}
    return ModelObject(**shown, artifact_id=artifact.id, created=int(artifact.created_at), owned_by=project.id)


def ancestor(artifact: Artifact, *, ours: bool = True) -> Ancestor:
    """Return an ancestor as it is shown; `ours` false hides the data and the job of another project's artifact."""
    return Ancestor(
        id=artifact.id,
        reference=reference(artifact),
        kind=artifact.kind,  # pyright: ignore[reportArgumentType] - the table has no other
        step=artifact.step,
        digest=artifact.digest,
        job_id=artifact.job_id if ours else None,
        deleted=artifact.deleted_at is not None,
        lineage=artifact.lineage if ours else {},
    )


def evaluation(job: Job) -> Evaluation:
    return Evaluation(id=job.id, name=job.spec.get("suffix"), status=job.state)
