"""Files: receiving, listing, finding and deleting them."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Self

from anyio import CancelScope, to_thread
from fastapi import Request

from api.answers import Deleted, Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.files.schemas import FileObject, file_object
from api.files.upload import Received, Upload
from api.spend.service import require_room, require_storage
from db import audit, files
from db.errors import LowSpace
from db.models import File
from db.paging import Order
from db.session import Session

# Chunks have the size of network reads; fewer and larger hand-overs to a thread cost less.
_HANDOVER_BYTES = 1 << 20
_ENVELOPE_BYTES = 64 * 1024


async def receive(service: Service, caller: Caller, request: Request) -> FileObject:
    """Store the file of a multipart body. An incomplete or faulty one leaves nothing behind."""
    content_type = request.headers.get("content-type", "")
    upload = Upload(service.blobs, service.settings, content_type, partial(require_storage, service, caller))
    try:
        await pour(service, caller, request, upload.feed)
        received = await to_thread.run_sync(upload.finish)
        return await to_thread.run_sync(_record, service, caller, received)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(upload.close)


async def pour(service: Service, caller: Caller, request: Request, feed: Callable[[bytes], None]) -> None:
    """Feed the body, as it arrives, in pieces that are worth a thread's time; the next piece arrives meanwhile."""
    announced = request.headers.get("content-length", "")
    announced_bytes = int(announced) if announced.isdecimal() else 0
    _refuse_early(service, announced_bytes)
    if caller.limited:
        await to_thread.run_sync(require_storage, service, caller, max(0, announced_bytes - _ENVELOPE_BYTES))
    pieces: list[bytes] = []
    pending_bytes = size_bytes = 0
    async with _Feeding(feed) as feeding:
        async for chunk in request.stream():
            pieces.append(chunk)
            pending_bytes += len(chunk)
            size_bytes += len(chunk)
            _check_size(service, size_bytes)
            if pending_bytes >= _HANDOVER_BYTES:
                await feeding.feed(b"".join(pieces))
                pieces.clear()
                pending_bytes = 0
        await feeding.feed(b"".join(pieces))


class _Feeding:
    """Feeds pieces in a thread, one after the other; when its context ends, so has the feeding."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._now: asyncio.Future[None] | None = None

    async def feed(self, piece: bytes) -> None:
        """Begin to feed a piece once the previous one is done. Raises what the previous one raised."""
        await self._finish()
        self._now = asyncio.ensure_future(to_thread.run_sync(self._feed, piece))

    async def _finish(self) -> None:
        if self._now is not None:
            await asyncio.shield(self._now)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._now is None:
            return
        with CancelScope(shield=True):
            await asyncio.wait([self._now])
        if kind is None:
            self._now.result()


def _refuse_early(service: Service, size_bytes: int) -> None:
    """Refuse a body whose announced size is too large before it is sent."""
    _check_size(service, size_bytes)
    blobs = service.blobs
    free_bytes = blobs.free_bytes()
    if free_bytes - size_bytes < blobs.low_space_bytes:
        raise LowSpace(free_bytes, blobs.low_space_bytes + size_bytes)


def _check_size(service: Service, size_bytes: int) -> None:
    limit = service.settings.max_upload_bytes
    if size_bytes > limit + _ENVELOPE_BYTES:
        raise ApiError(413, "file_too_large", f"the body is larger than a file of {limit:,} bytes", param="file")


def _record(service: Service, caller: Caller, received: Received) -> FileObject:
    with service.database.write() as session:
        return file_object(record(session, caller, received))


def record(session: Session, caller: Caller, received: Received) -> File:
    """Record a file whose bytes are stored.

    Raises:
        ApiError: 403 when it is over budget.
    """
    require_room(session, caller, None, new_bytes=received.blob.size_bytes)
    file = files.add(
        session,
        caller.project_id,
        filename=received.filename,
        purpose=received.purpose,
        size_bytes=received.blob.size_bytes,
        sha256=received.blob.sha256,
        format=received.format,
        row_count=received.row_count,
        expires_after_s=received.expires_after_s,
        key_id=caller.key_id,
    )
    audit.note(session, "file.create", file.id)
    return file


def page(
    service: Service, caller: Caller, *, after: str | None, limit: int, order: Order, purpose: str | None
) -> Page[FileObject]:
    with service.database.read() as session:
        rows, has_more = files.page(session, caller.project_id, after=after, limit=limit, order=order, purpose=purpose)
        return Page.of([file_object(row) for row in rows], has_more)


def find(service: Service, caller: Caller, file_id: str) -> File:
    """Return a file of the project. Raises ApiError 404 when there is none."""
    with service.database.read() as session:
        file = files.get(session, caller.project_id, file_id)
    if file is None:
        raise not_found("file", file_id)
    return file


def delete(service: Service, caller: Caller, file_id: str) -> Deleted:
    with service.database.write() as session:
        if not files.delete(session, caller.project_id, file_id):
            raise not_found("file", file_id)
        audit.note(session, "file.delete", file_id)
    return Deleted(id=file_id, object="file")
