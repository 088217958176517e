"""/v1/audit: who did what to which object, for an admin's key."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from api.answers import Object, Page, answer
from api.deps import AdminDep, After, Limit, ObjectId, ServiceDep
from api.errors import documented
from db import audit
from db.models import Audit

router = APIRouter(tags=["audit"])
_Of = Annotated[ObjectId | None, Query(description="Entries about this one only.")]


class AuditObject(Object):
    """An act of a key's holder. `request_id` stands in the answer to the request and in the log."""

    object: Literal["audit"] = "audit"
    created_at: float
    project_id: str
    key_id: str
    request_id: str
    action: str
    object_id: str


@router.get("/audit", response_model=Page[AuditObject], responses=documented(401, 403, 422))
def list_audit(
    service: ServiceDep,
    _admin: AdminDep,
    after: After = None,
    limit: Limit = 20,
    project_id: _Of = None,
    key_id: _Of = None,
    object_id: _Of = None,
) -> Response:
    """List what was done in all projects, newest first."""
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
    )
