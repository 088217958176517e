"""Permissions: checkpoints that other projects may use, which neither shows nor gives them their files."""

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import artifacts, fine_tuned_names, paging
from db.ids import new_id
from db.models import Artifact, Permission, Project


def usable(s: Session, project_id: str, reference: str) -> Artifact | None:
    """What the project may have answer and grade, and train on.

    That is its own (artifacts.resolve) and, by its fine-tuned name, what it was given the permission for. Of that its jobs
    may keep no weights (api.jobs.pins).
    """
    own = artifacts.resolve(s, project_id, reference)
    if own is not None or not reference.startswith(fine_tuned_names.PREFIX):
        return own
    for artifact, owner in fine_tuned_names.candidates(s, reference):
        if fine_tuned_names.name(artifact, owner.name) == reference:
            return artifact if _granted(s, artifact.id, project_id) is not None else None
    return None


def unknown_projects(s: Session, project_ids: Sequence[str]) -> list[str]:
    """Those that there are not."""
    known = set(s.scalars(select(Project.id).where(Project.id.in_(project_ids))))
    return [project_id for project_id in project_ids if project_id not in known]


def grant(s: Session, artifact_id: str, project_ids: Sequence[str]) -> list[Permission]:
    """Permissions for these projects; one that is there already stays."""
    # Two who grant the same at once wait for each other here.
    s.scalars(select(Artifact.id).where(Artifact.id == artifact_id).with_for_update()).one()
    granted = []
    for project_id in dict.fromkeys(project_ids):
        permission = _granted(s, artifact_id, project_id)
        if permission is None:
            permission = Permission(
                id=new_id("permission"), artifact_id=artifact_id, project_id=project_id, created_at=time.time()
            )
            s.add(permission)
            s.flush()
        granted.append(permission)
    return granted


def page(
    s: Session, artifact_id: str, *, project_id: str | None, after: str | None, limit: int, order: paging.Order
) -> tuple[list[Permission], bool]:
    query = select(Permission).where(Permission.artifact_id == artifact_id)
    if project_id is not None:
        query = query.where(Permission.project_id == project_id)
    return paging.page(s, query, Permission.id, after=after, limit=limit, order=order)


def revoke(s: Session, artifact_id: str, permission_id: str) -> bool:
    """Whether there was one to revoke; jobs that have begun go on."""
    query = select(Permission).where(Permission.artifact_id == artifact_id, Permission.id == permission_id)
    permission = s.scalars(query).one_or_none()
    if permission is None:
        return False
    s.delete(permission)
    s.flush()
    return True


def _granted(s: Session, artifact_id: str, project_id: str) -> Permission | None:
    query = select(Permission).where(Permission.artifact_id == artifact_id, Permission.project_id == project_id)
    return s.scalars(query).one_or_none()
