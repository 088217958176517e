"""/v1/audit: who did what to which object."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from api.answers import Object, Page, answer
from api.deps import After, CallerDep, Limit, ObjectId, ServiceDep
from api.errors import documented, not_found
from db import audit
from db.models import Audit
from db.scopes import Scope

router = APIRouter(tags=["audit"])
_Of = Annotated[ObjectId | None, Query(description="Entries about this one only.")]


class AuditObject(Object):
    """An act of a key's holder. `request_id` stands in the answer to the request and in the log.

    Both are null for what an operator did on the database itself.
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
    project_id: _Of = None,
    key_id: _Of = None,
    object_id: _Of = None,
) -> Response:
    """List what was done in the project, newest first; to an operator's key, in all projects."""
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
