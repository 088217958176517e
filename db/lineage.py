"""Lineage: what an artifact was built on, what was built on it, and what jobs build on."""

from collections.abc import Collection

from sqlalchemy import CTE, select
from sqlalchemy.orm import Session

from db.models import Artifact, File, Job
from db.state import ENDED


def ancestors(s: Session, artifact: Artifact) -> list[Artifact]:
    """The base of the artifact, the base of that, and so on; deleted ones too.

    It comes to an end: a base is always there before what is built on it.
    """
    found: list[Artifact] = []
    base_id = artifact.base_artifact_id
    while base_id is not None:
        base = s.get_one(Artifact, base_id)
        found.append(base)
        base_id = base.base_artifact_id
    return found


def descendants(s: Session, artifact: Artifact, limit: int) -> list[Artifact]:
    """The models and adapters that were made directly from it, newest first; deleted ones too."""
    query = select(Artifact).where(
        Artifact.project_id == artifact.project_id,
        Artifact.base_artifact_id == artifact.id,
        Artifact.kind.in_(("model", "adapter")),
    )
    return list(s.scalars(query.order_by(Artifact.id.desc()).limit(limit)))


def checkpoints(s: Session, job_id: str, limit: int) -> list[Artifact]:
    """The last checkpoints that a job saved, by step; also those that made room for later ones."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.kind == "checkpoint")
    return list(s.scalars(query.order_by(Artifact.step.desc()).limit(limit)))[::-1]


def evaluations(s: Session, artifact: Artifact, limit: int) -> list[Job]:
    """The jobs that scored it, newest first."""
    query = select(Job).where(
        Job.project_id == artifact.project_id, Job.base_artifact_id == artifact.id, Job.kind == "eval"
    )
    return list(s.scalars(query.order_by(Job.id.desc()).limit(limit)))


def deleted_files(s: Session, project_id: str, file_ids: Collection[str]) -> list[str]:
    """Which of these files are deleted."""
    query = select(File.id).where(File.project_id == project_id, File.id.in_(file_ids), File.deleted_at.is_not(None))
    return list(s.scalars(query.order_by(File.id)))


def needed() -> CTE:
    """Rows (job_id, artifact_id): what the jobs that have not ended start from.

    Below an adapter that is the model it was trained on too; a model stands by itself.
    """
    bases = select(Job.id.label("job_id"), Job.base_artifact_id.label("artifact_id"))
    direct = bases.where(Job.state.not_in(ENDED), Job.base_artifact_id.is_not(None)).cte("needed", recursive=True)
    below = select(direct.c.job_id, Artifact.base_artifact_id).join(Artifact, Artifact.id == direct.c.artifact_id)
    return direct.union(below.where(Artifact.layout == "adapter", Artifact.base_artifact_id.is_not(None)))
