"""Lineage: what an artifact was built on, what was built on it, and what jobs build on."""

from collections.abc import Collection

from sqlalchemy import CTE, CompoundSelect, String, cast, func, select
from sqlalchemy.orm import Session

from db.models import Artifact, File, Job
from db.state import UNENDED


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


def needing(artifact_ids: Collection[str]) -> CompoundSelect[str, str]:
    """Rows (job_id, artifact_id): the jobs that have not ended and start from one of these, or compare with it.

    They need it too where they do so with an adapter on it; a model stands by itself.
    """
    above = _with_adapters(artifact_ids)
    unended = Job.state.in_(UNENDED)
    starting = select(Job.id, above.c.needed).join(above, Job.base_artifact_id == above.c.id).where(unended)
    rival = Job.spec["compare_to"].as_string().label("rival")
    # Materialized, each spec is read once, however many adapters there are; by project and state, no ended job's is.
    theirs = Job.project_id.in_(select(above.c.project_id))
    evals = (
        select(Job.id, Job.project_id, rival)
        .where(theirs, unended, Job.kind == "eval")
        .cte()
        .prefix_with("MATERIALIZED")
    )
    named = (evals.c.project_id == above.c.project_id) & (evals.c.rival == above.c.name)
    return starting.union(select(evals.c.id, above.c.needed).join(above, named))


def _with_adapters(artifact_ids: Collection[str]) -> CTE:
    """These, by the names that specs are pinned to, and the adapters on them; `needed` is the one below."""
    name = func.coalesce(Artifact.name + "/" + cast(Artifact.version, String), Artifact.id)
    shown = (Artifact.id, Artifact.project_id, name.label("name"))
    these = select(Artifact.id.label("needed"), *shown).where(Artifact.id.in_(artifact_ids))
    above = these.cte("above", recursive=True)
    on_it = select(above.c.needed, *shown).join(above, Artifact.base_artifact_id == above.c.id)
    return above.union(on_it.where(Artifact.layout == "adapter"))
