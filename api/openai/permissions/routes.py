"""/v1/fine_tuning/checkpoints/CHECKPOINT/permissions: the projects that may use a tuned model or a checkpoint."""

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.answers import Deleted, Object, Page, answer
from api.auth import Caller
from api.bodies import documented_body, read_as
from api.deps import After, CallerDep, Limit, ObjectId, Service, ServiceDep
from api.errors import ApiError, documented, not_found
from db import artifacts, audit, permissions
from db.models import Artifact, Permission
from db.paging import Order
from db.session import Session
from engine.parts import Text

router = APIRouter(prefix="/fine_tuning/checkpoints", tags=["OpenAI: fine-tuning"])

_OBJECT = "checkpoint.permission"
_ORDERS: dict[str, Order] = {"ascending": "asc", "descending": "desc"}
ByAge = Annotated[
    Literal["ascending", "descending"],
    Query(alias="order", description="The order by creation time; descending is newest first."),
]
Of = Annotated[ObjectId | None, Query(alias="project_id", description="Only the permission of this project.")]


class PermissionRequest(BaseModel):
    """The body of `permissions.create`."""

    model_config = ConfigDict(extra="forbid")

    project_ids: Annotated[list[Annotated[Text, Field(max_length=100)]], Field(min_length=1, max_length=100)]


class PermissionObject(Object):
    """The permission of a project to chat with, grade with, evaluate and train on another project's artifact."""

    object: Literal["checkpoint.permission"] = _OBJECT
    created_at: int
    project_id: str


@router.post(
    "/{checkpoint_id:path}/permissions",
    response_model=Page[PermissionObject],
    responses=documented(400, 401, 404, 413, 415, 422),
    openapi_extra=documented_body(PermissionRequest),
)
async def create_checkpoint_permissions(
    service: ServiceDep, caller: CallerDep, request: Request, checkpoint_id: str
) -> Response:
    """Let other projects use a tuned model or a checkpoint. Needs an admin's key of the project that owns it."""
    await to_thread.run_sync(_require, service, caller, checkpoint_id)
    asked = await read_as(PermissionRequest, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(_grant, service, caller, checkpoint_id, asked))


@router.get(
    "/{checkpoint_id:path}/permissions",
    response_model=Page[PermissionObject],
    responses=documented(401, 404, 422),
)
def list_checkpoint_permissions(
    service: ServiceDep,
    caller: CallerDep,
    checkpoint_id: str,
    after: After = None,
    limit: Limit = 10,
    order: ByAge = "descending",
    project_id: Of = None,
) -> Response:
    """List the projects that may use an artifact."""
    with service.database.read() as session:
        artifact = _own(session, caller, checkpoint_id)
        rows, has_more = permissions.page(
            session, artifact.id, project_id=project_id, after=after, limit=limit, order=_ORDERS[order]
        )
    return answer(Page.of([_object(row) for row in rows], has_more))


@router.delete(
    "/{checkpoint_id:path}/permissions/{permission_id}",
    response_model=Deleted,
    responses=documented(401, 404),
)
def delete_checkpoint_permission(
    service: ServiceDep, caller: CallerDep, checkpoint_id: str, permission_id: str
) -> Response:
    """Revoke a permission."""
    with service.database.write() as session:
        artifact = _own(session, caller, checkpoint_id)
        project_id = permissions.revoke(session, artifact.id, permission_id)
        if project_id is None:
            raise not_found("permission", permission_id)
        details = {"checkpoint": artifact.id, "project_id": project_id}
        audit.note(session, "permission.delete", permission_id, details)
    return answer(Deleted(id=permission_id, object=_OBJECT))


def _grant(service: Service, caller: Caller, reference: str, asked: PermissionRequest) -> Page[PermissionObject]:
    with service.database.write() as session:
        artifact = _own(session, caller, reference)
        if unknown := permissions.unknown_projects(session, asked.project_ids):
            message = f"there is no project {unknown[0][:100]!r}"
            raise ApiError(404, "project_not_found", message, param="project_ids")
        made = permissions.grant(session, artifact.id, asked.project_ids)
        audit.note(session, "permission.create", artifact.id, {"project_ids": sorted(set(asked.project_ids))})
        return Page.of([_object(row) for row in made])


def _own(session: Session, caller: Caller, reference: str) -> Artifact:
    """Return an artifact of the project. Raises ApiError 404 when there is none."""
    artifact = artifacts.resolve(session, caller.project_id, reference)
    if artifact is None:
        raise not_found("checkpoint", reference)
    return artifact


def _require(service: Service, caller: Caller, reference: str) -> None:
    with service.database.read() as session:
        _own(session, caller, reference)


def _object(permission: Permission) -> PermissionObject:
    return PermissionObject(id=permission.id, created_at=int(permission.created_at), project_id=permission.project_id)
