"""/v1/uploads."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.errors import documented
from api.idempotency import ask_of
from api.openai.uploads import service as uploads
from api.openai.uploads.schemas import PART_BODY, CompleteRequest, PartObject, UploadObject, UploadRequest

router = APIRouter(prefix="/uploads", tags=["OpenAI: uploads"])


@router.post(
    "",
    response_model=UploadObject,
    responses=documented(400, 401, 413, 415, 422),
    openapi_extra=documented_body(UploadRequest),
)
async def create_upload(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Announce a file that comes in parts; it has an hour to arrive."""
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
    """Put the parts together as a file."""
    await to_thread.run_sync(uploads.require, service, caller, upload_id)
    asked = await read_as(CompleteRequest, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(uploads.complete, service, caller, upload_id, asked))


@router.post("/{upload_id}/cancel", response_model=UploadObject, responses=documented(401, 404, 409))
def cancel_upload(service: ServiceDep, caller: CallerDep, upload_id: str) -> Response:
    """Drop an upload."""
    return answer(uploads.cancel(service, caller, upload_id))
