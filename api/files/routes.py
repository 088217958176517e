"""/v1/files."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.answers import Deleted, Page, answer
from api.deps import After, CallerDep, Order, ServiceDep
from api.downloads import BINARY, blob_response
from api.errors import documented
from api.files import service as files
from api.files.schemas import MADE_PURPOSES, UPLOAD_BODY, FileObject, file_object
from api.files.upload import ALL_PURPOSES

router = APIRouter(prefix="/files", tags=["files"])

_OPENAIS_PURPOSES = ("assistants_output", "batch_output")
"""OpenAI's purposes of files that nothing makes here."""
Purpose = Annotated[
    str | None,
    Query(
        pattern=f"^({'|'.join((*ALL_PURPOSES, *MADE_PURPOSES, *_OPENAIS_PURPOSES))})$",
        description="Only files with this purpose; none have assistants_output or batch_output.",
    ),
]
Limit = Annotated[
    int, Query(ge=1, le=10_000, description="The maximum number of files on the page; values above 1,000 mean 1,000.")
]


@router.post(
    "",
    status_code=201,
    response_model=FileObject,
    responses=documented(400, 401, 413, 415, 422, 507),
    openapi_extra=UPLOAD_BODY,
)
async def upload_file(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Upload a file; the rows of data files are checked while they stream in."""
    file = await files.receive(service, caller, request)
    return answer(file, 201, {"Location": f"/v1/files/{file.id}"})


@router.get("", response_model=Page[FileObject], responses=documented(401, 422))
def list_files(
    service: ServiceDep,
    caller: CallerDep,
    after: After = None,
    limit: Limit = 1000,
    order: Order = "desc",
    purpose: Purpose = None,
) -> Response:
    """List files."""
    return answer(files.page(service, caller, after=after, limit=min(limit, 1000), order=order, purpose=purpose))


@router.get("/{file_id}", response_model=FileObject, responses=documented(401, 404))
def show_file(service: ServiceDep, caller: CallerDep, file_id: str) -> Response:
    """Show a file."""
    return answer(file_object(files.find(service, caller, file_id)))


@router.get("/{file_id}/content", response_class=Response, responses=BINARY | documented(401, 404, 416))
async def download_file(service: ServiceDep, caller: CallerDep, request: Request, file_id: str) -> Response:
    """Download the bytes of a file; `Range` and `If-None-Match` are honoured, the ETag is the sha256."""
    file = await service.look(files.find, service, caller, file_id)
    return blob_response(request, service.blobs, sha256=file.sha256, size_bytes=file.size_bytes, filename=file.filename)


@router.delete("/{file_id}", response_model=Deleted, responses=documented(401, 404, 409))
def delete_file(service: ServiceDep, caller: CallerDep, file_id: str) -> Response:
    """Delete a file that no unfinished job needs."""
    return answer(files.delete(service, caller, file_id))
