"""/v1/uploads."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.errors import ApiError, documented
from api.idempotency import ask_of
from api.openai.uploads import service as uploads
from api.openai.uploads.schemas import PART_BODY, CompleteRequest, PartObject, UploadObject, UploadRequest
from api.turns import Claims, FairThreads

router = APIRouter(prefix="/uploads", tags=["OpenAI: uploads"])

_COMPLETING = Claims()
_JOINING = FairThreads(total=4, of_a_project=2)
"""Joining the parts of a large file takes minutes, and other routes need the shared threads."""


@router.post(
    "",
    response_model=UploadObject,
    responses=documented(400, 401, 413, 415, 422),
    openapi_extra=documented_body(UploadRequest),
)
async def create_upload(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Begin an upload in parts, which has to be completed within an hour."""
    asked = await read_as(UploadRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(uploads.create, service, caller, asked, ask))


@router.post(
    "/{upload_id}/parts",
    response_model=PartObject,
    responses=documented(400, 401, 404, 409, 413, 415, 422, 507),
    openapi_extra=PART_BODY,
)
async def create_upload_part(service: ServiceDep, caller: CallerDep, request: Request, upload_id: str) -> Response:
    """Send a part."""
    return answer(await uploads.receive_part(service, caller, upload_id, request))


@router.post(
    "/{upload_id}/complete",
    response_model=UploadObject,
    responses=documented(400, 401, 404, 409, 413, 415, 422, 507),
    openapi_extra=documented_body(CompleteRequest),
)
async def complete_upload(service: ServiceDep, caller: CallerDep, request: Request, upload_id: str) -> Response:
    """Complete an upload: join its parts to a file."""
    await to_thread.run_sync(uploads.require, service, caller, upload_id)
    asked = await read_as(CompleteRequest, request, service.settings.max_body_bytes)
    with _COMPLETING.claim(upload_id, _completing(upload_id)):
        return answer(await _JOINING.run(caller.project_id, uploads.complete, service, caller, upload_id, asked))


def _completing(upload_id: str) -> ApiError:
    message = f"{upload_id} is already being completed; ask again for the result"
    return ApiError(409, "upload_completing", message, headers={"Retry-After": "5"})


@router.post("/{upload_id}/cancel", response_model=UploadObject, responses=documented(401, 404, 409))
def cancel_upload(service: ServiceDep, caller: CallerDep, upload_id: str) -> Response:
    """Cancel an upload."""
    return answer(uploads.cancel(service, caller, upload_id))
