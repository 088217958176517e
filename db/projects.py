"""Projects: the tenants of the service."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.ids import new_id
from db.models import Project


def create(s: Session, name: str) -> Project:
    """Create a project. Names are unique: the database refuses a second."""
    project = Project(id=new_id("proj"), name=name, created_at=time.time())
    s.add(project)
    s.flush()
    return project


def get(s: Session, project_id: str) -> Project | None:
    return s.scalars(select(Project).where(Project.id == project_id)).one_or_none()


def limit(s: Session, name: str, *, share: float | None = None, max_running_jobs: int | None = None) -> bool:
    """Change a project's share of the workers and its limit of running jobs; None keeps a value, -1 lifts the limit.

    Returns False if there is no project of that name.
    """
    project = by_name(s, name)
    if project is None:
        return False
    project.share = project.share if share is None else share
    if max_running_jobs is not None:
        project.max_running_jobs = None if max_running_jobs < 0 else max_running_jobs
    s.flush()
    return True


def list_all(s: Session) -> list[Project]:
    return list(s.scalars(select(Project).order_by(Project.id)))


def by_name(s: Session, name: str) -> Project | None:
    return s.scalars(select(Project).where(Project.name == name)).one_or_none()
