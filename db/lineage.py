"""Lineage: what an artifact was built on."""

from sqlalchemy.orm import Session

from db.models import Artifact


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
