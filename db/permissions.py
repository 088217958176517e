"""Permissions of projects to use artifacts of other projects, without access to their files."""

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import artifacts, fine_tuned_names, paging
from db.ids import new_id
from db.models import Artifact, Permission, Project


def usable(s: Session, project_id: str, reference: str) -> Artifact | None:
    """Return the artifact for a reference if the project may generate with it, grade with it and train on it.

    These are its own (artifacts.resolve) and, by their fine-tuned names, those that it has permission for. Its jobs may
    keep no weights of the latter (api.jobs.pins).
    """
    own = artifacts.resolve(s, project_id, reference)
    if own is not None or not reference.startswith(fine_tuned_names.PREFIX):
        return own
    for artifact, owner in fine_tuned_names.candidates(s, reference):
        if fine_tuned_names.name(artifact, owner.name) == reference:
            return artifact if _granted(s, artifact.id, project_id) is not None else None
    return None


def unknown_projects(s: Session, project_ids: Sequence[str]) -> list[str]:
    """Return those of the ids that are not ids of projects."""
    known = set(s.scalars(select(Project.id).where(Project.id.in_(project_ids))))
    return [project_id for project_id in project_ids if project_id not in known]


def grant(s: Session, artifact_id: str, project_ids: Sequence[str]) -> list[Permission]:
    """Give these projects permission to use the artifact, keep those that exist, and return all."""
    # Concurrent grants of the same permission wait for each other here.
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
    """Return the permissions for an artifact, of one project if it is given, and whether more follow."""
    query = select(Permission).where(Permission.artifact_id == artifact_id)
    if project_id is not None:
        query = query.where(Permission.project_id == project_id)
    return paging.page(s, query, Permission.id, after=after, limit=limit, order=order)


def revoke(s: Session, artifact_id: str, permission_id: str) -> str | None:
    """Revoke a permission and return its project, or None when there is none; jobs that have begun go on."""
    query = select(Permission).where(Permission.artifact_id == artifact_id, Permission.id == permission_id)
    permission = s.scalars(query).one_or_none()
    if permission is None:
        return None
    s.delete(permission)
    s.flush()
    return permission.project_id


def _granted(s: Session, artifact_id: str, project_id: str) -> Permission | None:
    query = select(Permission).where(Permission.artifact_id == artifact_id, Permission.project_id == project_id)
    return s.scalars(query).one_or_none()
