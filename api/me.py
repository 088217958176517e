"""/v1/me: the key in use and its project."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.answers import Object, answer
from api.auth import Caller
from api.deps import CallerDep, Service, ServiceDep
from api.errors import documented, not_found
from api.keys.schemas import KeyObject, key_object
from db import keys, projects

router = APIRouter(tags=["me"])


class ProjectObject(Object):
    """A project, which owns everything else in the API."""

    object: Literal["project"] = "project"
    name: str


class Me(BaseModel):
    """The key of a request, and its project."""

    object: Literal["me"] = "me"
    key: KeyObject
    project: ProjectObject


@router.get("/me", response_model=Me, responses=documented(401, 404))
def show_me(service: ServiceDep, caller: CallerDep) -> Response:
    """Show the key in use and its project."""
    return answer(of_caller(service, caller))


def of_caller(service: Service, caller: Caller) -> Me:
    """Return the key and the project of a caller. Raises ApiError 404 when either was deleted just now."""
    with service.database.read() as session:
        project = projects.get(session, caller.project_id)
        key = keys.working(session, caller.key_id)
    if project is None or key is None:
        raise not_found("project", caller.project_id)
    return Me(key=key_object(key), project=ProjectObject(id=project.id, name=project.name))
