"""/v1/keys: the keys of a project. Operators make keys of any project with `python -m api.keys`."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import Page, answer
from api.bodies import documented_body, read_as
from api.deps import After, CallerDep, Limit, ServiceDep
from api.errors import documented
from api.keys import service as keys
from api.keys.schemas import KeyObject, KeyRequest, NewKeyObject

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post(
    "",
    status_code=201,
    response_model=NewKeyObject,
    responses=documented(401, 413, 415, 422),
    openapi_extra=documented_body(KeyRequest),
)
async def create_key(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Make a key of the project. Only this response contains its token."""
    wanted = await read_as(KeyRequest, request, service.settings.max_body_bytes)
    made = await to_thread.run_sync(keys.create, service, caller, wanted)
    return answer(made, 201, {"Location": f"/v1/keys/{made.id}"})


@router.get("", response_model=Page[KeyObject], responses=documented(401, 422))
def list_keys(service: ServiceDep, caller: CallerDep, after: After = None, limit: Limit = 20) -> Response:
    """List the keys of the project, including revoked ones, newest first."""
    return answer(keys.page(service, caller, after=after, limit=limit))


@router.get("/{key_id}", response_model=KeyObject, responses=documented(401, 404))
def show_key(service: ServiceDep, caller: CallerDep, key_id: str) -> Response:
    """Show a key."""
    return answer(keys.show(service, caller, key_id))


@router.post("/{key_id}/revoke", response_model=KeyObject, responses=documented(401, 404, 409))
def revoke_key(service: ServiceDep, caller: CallerDep, key_id: str) -> Response:
    """Revoke a key, which stays listed; within a second it and its sessions are refused."""
    return answer(keys.revoke(service, caller, key_id))
