"""Files: taking them in, showing them, handing them out."""

from anyio import to_thread
from fastapi import Request

from api.answers import Deleted, Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.files.schemas import FileObject, file_object
from api.files.upload import Received, Upload
from db import files
from db.models import File
from db.paging import Order

# Chunks come in network-sized; fewer and larger hand-overs to a thread cost less.
_HANDOVER_BYTES = 512 * 1024
_ENVELOPE_BYTES = 64 * 1024


async def receive(service: Service, caller: Caller, request: Request) -> FileObject:
    """The file of a multipart body, stored and entered; a cut or faulty one leaves nothing."""
    settings = service.settings
    upload = Upload(service.blobs, settings, request.headers.get("content-type", ""))
    try:
        pending, size_bytes = bytearray(), 0
        async for chunk in request.stream():
            pending += chunk
            size_bytes += len(chunk)
            if size_bytes > settings.max_upload_bytes + _ENVELOPE_BYTES:
                limit = settings.max_upload_bytes
                raise ApiError(413, "file_too_large", f"the body is larger than a file of {limit:,} bytes")
            if len(pending) >= _HANDOVER_BYTES:
                await to_thread.run_sync(upload.feed, bytes(pending))
                pending.clear()
        await to_thread.run_sync(upload.feed, bytes(pending))
        received = await to_thread.run_sync(upload.finish)
        return await to_thread.run_sync(_enter, service, caller, received)
    finally:
        upload.close()


def _enter(service: Service, caller: Caller, received: Received) -> FileObject:
    with service.database.write() as session:
        file = files.add(
            session,
            caller.project_id,
            filename=received.filename,
            purpose=received.purpose,
            size_bytes=received.blob.size_bytes,
            sha256=received.blob.sha256,
            format=received.format,
            row_count=received.row_count,
        )
        return file_object(file)


def page(  # noqa: PLR0913 - a listing's parameters
    service: Service, caller: Caller, *, after: str | None, limit: int, order: Order, purpose: str | None
) -> Page[FileObject]:
    with service.database.read() as session:
        rows, has_more = files.page(session, caller.project_id, after=after, limit=limit, order=order, purpose=purpose)
        return Page.of([file_object(row) for row in rows], has_more)


def find(service: Service, caller: Caller, file_id: str) -> File:
    """Raises ApiError 404 when the project has no such file."""
    with service.database.read() as session:
        file = files.get(session, caller.project_id, file_id)
    if file is None:
        raise not_found("file", file_id)
    return file


def delete(service: Service, caller: Caller, file_id: str) -> Deleted:
    with service.database.write() as session:
        if not files.delete(session, caller.project_id, file_id):
            raise not_found("file", file_id)
    return Deleted(id=file_id, object="file")
