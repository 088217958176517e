"""/v1/audit: which key did what to which object."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from api.answers import Object, Page, answer
from api.deps import After, CallerDep, Limit, ObjectId, ServiceDep
from api.errors import documented, not_found
from db import audit
from db.models import Audit
from db.scopes import Scope

router = APIRouter(tags=["audit"])
_ProjectId = Annotated[ObjectId | None, Query(description="Only entries of this project.")]
_KeyId = Annotated[ObjectId | None, Query(description="Only entries of acts by this key.")]
_ObjectId = Annotated[ObjectId | None, Query(description="Only entries about this object.")]


class AuditObject(Object):
    """An entry of the audit log. `request_id` is also in the response's headers and in the service's log.

    `key_id` and `request_id` are null for what an operator did on the database itself.
    """

    object: Literal["audit"] = "audit"
    created_at: float
    project_id: str
    key_id: str | None
    request_id: str | None
    action: str
    object_id: str
    details: dict[str, Any] | None


@router.get("/audit", response_model=Page[AuditObject], responses=documented(401, 404, 422))
def list_audit(
    service: ServiceDep,
    caller: CallerDep,
    after: After = None,
    limit: Limit = 20,
    project_id: _ProjectId = None,
    key_id: _KeyId = None,
    object_id: _ObjectId = None,
) -> Response:
    """List the entries of the audit log, newest first; an operator's key sees those of all projects."""
    if not caller.scope.covers(Scope.OPERATOR):
        if project_id not in {None, caller.project_id}:
            raise not_found("project", project_id or "")
        project_id = caller.project_id
    wanted = {"project_id": project_id, "key_id": key_id, "object_id": object_id}
    with service.database.read() as session:
        rows, has_more = audit.page(session, after=after, limit=limit, **wanted)
    return answer(Page.of([_shown(row) for row in rows], has_more))


def _shown(row: Audit) -> AuditObject:
    return AuditObject(
        id=row.id,
        created_at=row.created_at,
        project_id=row.project_id,
        key_id=row.key_id,
        request_id=row.request_id,
        action=row.action,
        object_id=row.object_id,
        details=row.details,
    )
