"""Lineage: the artifacts that an artifact was built on, those built on it, and the jobs that need it."""

from collections.abc import Collection

from sqlalchemy import CTE, CompoundSelect, String, cast, func, select
from sqlalchemy.orm import Session

from db.models import Artifact, File, Job
from db.state import UNENDED


def ancestors(s: Session, artifact: Artifact) -> list[Artifact]:
    """Return the base of the artifact, the base of that, and so on, including deleted ones.

    There are no cycles: a base always exists before what is built on it.
    """
    found: list[Artifact] = []
    base_id = artifact.base_artifact_id
    while base_id is not None:
        base = s.get_one(Artifact, base_id)
        found.append(base)
        base_id = base.base_artifact_id
    return found


def below(s: Session, adapter: Artifact) -> list[Artifact]:
    """Return what an adapter is loaded onto: the artifacts below it down to its model, including deleted ones.

    A model needs no other artifact.
    """
    found: list[Artifact] = []
    while adapter.layout == "adapter" and adapter.base_artifact_id is not None:
        adapter = s.get_one(Artifact, adapter.base_artifact_id)
        found.append(adapter)
    return found


def descendants(s: Session, artifact: Artifact, limit: int) -> list[Artifact]:
    """Return the models and adapters that were built directly on it, newest first, including deleted ones."""
    query = select(Artifact).where(
        Artifact.project_id == artifact.project_id,
        Artifact.base_artifact_id == artifact.id,
        Artifact.kind.in_(("model", "adapter")),
    )
    return list(s.scalars(query.order_by(Artifact.id.desc()).limit(limit)))


def checkpoints(s: Session, job_id: str, limit: int) -> list[Artifact]:
    """Return the last checkpoints that a job saved, in the order of their steps, including deleted ones."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.kind == "checkpoint")
    return list(s.scalars(query.order_by(Artifact.step.desc()).limit(limit)))[::-1]


def evaluations(s: Session, artifact: Artifact, limit: int) -> list[Job]:
    """Return the evaluation jobs of the artifact, newest first."""
    query = select(Job).where(
        Job.project_id == artifact.project_id, Job.base_artifact_id == artifact.id, Job.kind == "eval"
    )
    return list(s.scalars(query.order_by(Job.id.desc()).limit(limit)))


def deleted_files(s: Session, project_id: str, file_ids: Collection[str]) -> list[str]:
    """Return the ids of those of the files that are deleted."""
    query = select(File.id).where(File.project_id == project_id, File.id.in_(file_ids), File.deleted_at.is_not(None))
    return list(s.scalars(query.order_by(File.id)))


def needing(artifact_ids: Collection[str]) -> CompoundSelect[str, str]:
    """Select rows (job_id, artifact_id) of unfinished jobs that start from one of the artifacts or compare with it.

    A job that does so with an adapter also needs the model below the adapter. A model needs no other artifact.
    """
    above = with_adapters(artifact_ids)
    unended = Job.state.in_(UNENDED)
    starting = select(Job.id, above.c.needed).join(above, Job.base_artifact_id == above.c.id).where(unended)
    rival = Job.spec["compare_to"].as_string().label("rival")
    # MATERIALIZED, so that each spec is read once however many adapters there are; the index on project and state
    # leaves ended jobs out.
    theirs = Job.project_id.in_(select(above.c.project_id))
    evals = (
        select(Job.id, Job.project_id, rival)
        .where(theirs, unended, Job.kind == "eval")
        .cte()
        .prefix_with("MATERIALIZED")
    )
    named = (evals.c.project_id == above.c.project_id) & (evals.c.rival == above.c.name)
    return starting.union(select(evals.c.id, above.c.needed).join(above, named))


def with_adapters(artifact_ids: Collection[str]) -> CTE:
    """Select the artifacts and the adapters on them, with the names that specs are pinned to.

    `needed` is the one of the given artifacts that a row belongs to.
    """
    name = func.coalesce(Artifact.name + "/" + cast(Artifact.version, String), Artifact.id)
    shown = (Artifact.id, Artifact.project_id, name.label("name"))
    these = select(Artifact.id.label("needed"), *shown).where(Artifact.id.in_(artifact_ids))
    above = these.cte("above", recursive=True)
    on_it = select(above.c.needed, *shown).join(above, Artifact.base_artifact_id == above.c.id)
    return above.union(on_it.where(Artifact.layout == "adapter"))
