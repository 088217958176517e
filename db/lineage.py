"""Lineage: what an artifact was built on, and what jobs build on."""

from sqlalchemy import CTE, select
from sqlalchemy.orm import Session

from db.models import Artifact, Job
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


def needed() -> CTE:
    """Rows (job_id, artifact_id): what the jobs that have not ended start from.

    Below an adapter that is the model it was trained on too; a model stands by itself.
    """
    bases = select(Job.id.label("job_id"), Job.base_artifact_id.label("artifact_id"))
    direct = bases.where(Job.state.not_in(ENDED), Job.base_artifact_id.is_not(None)).cte("needed", recursive=True)
    below = select(direct.c.job_id, Artifact.base_artifact_id).join(Artifact, Artifact.id == direct.c.artifact_id)
    return direct.union(below.where(Artifact.layout == "adapter", Artifact.base_artifact_id.is_not(None)))
