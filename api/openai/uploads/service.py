"""Uploads: parts arrive in any order, and some more than once; joined, they are a file like any other."""

import hashlib
from collections.abc import Sequence
from functools import partial

from anyio import CancelScope, to_thread
from fastapi import Request

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, conflict, not_found
from api.files.service import pour, record
from api.files.upload import ALL_PURPOSES, STORED_AS_IS, Received, invalid_field, invalid_file, plain_name
from api.idempotency import once
from api.openai.uploads.part import Part, require_fits
from api.openai.uploads.schemas import (
    MAX_PARTS,
    CompleteRequest,
    PartObject,
    UploadObject,
    UploadRequest,
    has_expired,
    part_object,
    upload_object,
)
from api.spend.service import require_room, require_storage
from db import audit, files, uploads
from db.blobs import Blob
from db.idempotency import IdempotentRequest
from db.models import Upload, UploadPart
from db.session import Session
from engine.rows import RowChecker

_TIMES = 3
"""How many times its size, or the number of parts, an upload may receive: clients that miss an answer send a part again."""


def create(service: Service, caller: Caller, asked: UploadRequest, ask: IdempotentRequest | None) -> UploadObject:
    """Begin an upload."""
    if asked.purpose not in ALL_PURPOSES:
        raise invalid_field("purpose", "unknown_value", "is not a purpose", f"known: {', '.join(ALL_PURPOSES)}")
    if asked.bytes > service.settings.max_upload_bytes:
        message = f"a file may have at most {service.settings.max_upload_bytes:,} bytes"
        raise ApiError(413, "file_too_large", message, param="bytes")
    filename = plain_name(asked.filename.encode(errors="replace"))
    expires_after_s = asked.expires_after and asked.expires_after.seconds

    with service.database.write() as session:

        def make() -> UploadObject:
            require_room(session, caller, None, new_bytes=asked.bytes)
            upload = uploads.add(
                session, caller.project_id,
                filename=filename, purpose=asked.purpose, size_bytes=asked.bytes, file_expires_after_s=expires_after_s,
            )  # fmt: skip
            audit.note(session, "upload.create", upload.id)
            return upload_object(upload)

        return once(session, ask, UploadObject, make)


def _pending(upload: Upload | None, upload_id: str) -> Upload:
    """Return the upload. Raises ApiError 404 or 409 unless it accepts parts and can be completed."""
    if upload is None:
        raise not_found("upload", upload_id)
    if upload.state != "pending" or has_expired(upload):
        status = "expired" if has_expired(upload) else upload.state
        raise conflict("upload_ended", f"the upload is {status}; begin another one")
    return upload


async def receive_part(service: Service, caller: Caller, upload_id: str, request: Request) -> PartObject:
    """Store a part. An incomplete one leaves nothing behind."""
    left = await to_thread.run_sync(_room, service, caller, upload_id)
    part = Part(service.blobs, request.headers.get("content-type", ""), left, partial(require_storage, service, caller))
    try:
        await pour(service, caller, request, part.feed)
        blob = await to_thread.run_sync(part.finish)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(part.close)
    return await to_thread.run_sync(_enter_part, service, caller, upload_id, blob)


def _room(service: Service, caller: Caller, upload_id: str) -> int:
    """Return the most bytes that the next part may have, before it has arrived."""
    with service.database.read() as session:
        return _left(session, _pending(uploads.get(session, caller.project_id, upload_id), upload_id))


def _left(session: Session, upload: Upload) -> int:
    """Return the most bytes that the next part may have. Raises ApiError 413 when there may be no more parts."""
    count, size_bytes = uploads.received(session, upload.id)
    if count >= _TIMES * MAX_PARTS:
        raise ApiError(413, "too_many_parts", f"the upload has {count:,} parts; a file has at most {MAX_PARTS:,}")
    return min(upload.size_bytes, _TIMES * upload.size_bytes - size_bytes)


def _enter_part(service: Service, caller: Caller, upload_id: str, blob: Blob) -> PartObject:
    with service.database.write() as session:
        upload = _pending(uploads.lock(session, caller.project_id, upload_id), upload_id)
        require_fits(blob.size_bytes, _left(session, upload))  # other parts may have arrived meanwhile
        require_room(session, caller, None, new_bytes=blob.size_bytes)
        return part_object(uploads.add_part(session, upload, blob))


def require(service: Service, caller: Caller, upload_id: str) -> None:
    """Raise ApiError 404 when the project has no such upload."""
    with service.database.read() as session:
        if uploads.get(session, caller.project_id, upload_id) is None:
            raise not_found("upload", upload_id)


def complete(service: Service, caller: Caller, upload_id: str, asked: CompleteRequest) -> UploadObject:
    """Join the parts to a file, which is checked as any file is; a completed upload stays as it is.

    Raises:
        ApiError: 404, 409, 403 over budget, or 400 when parts, size, md5 or rows are wrong.
    """
    with service.database.read() as session:
        upload = uploads.get(session, caller.project_id, upload_id)
        if upload is not None and upload.state == "completed":
            return _completed(session, caller, upload)
        upload = _pending(upload, upload_id)
        parts = _ordered(uploads.parts(session, upload_id), asked.part_ids)
    _check_size(upload, parts)
    blob, row_format, row_count = _joined(service, upload, parts, asked.md5)
    with service.database.write() as session:
        upload = uploads.lock(session, caller.project_id, upload_id)
        if upload is not None and upload.state == "completed":
            return _completed(session, caller, upload)
        upload = _pending(upload, upload_id)
        made = Received(upload.filename, upload.purpose, blob, row_format, row_count, upload.file_expires_after_s)
        uploads.drop_parts(session, upload)  # the file counts instead of them
        file = record(session, caller, made)
        return upload_object(uploads.end(session, upload, "completed", file.id), file)


def _completed(session: Session, caller: Caller, upload: Upload) -> UploadObject:
    return upload_object(upload, files.get(session, caller.project_id, upload.file_id or ""))


def _ordered(known: dict[str, UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    missing = [part_id for part_id in part_ids if part_id not in known]
    if missing:
        raise ApiError(400, "part_not_found", f"the upload has no part {missing[0]!r}", param="part_ids")
    if len(set(part_ids)) < len(part_ids):
        raise ApiError(400, "part_twice", "a part is named twice", param="part_ids")
    return [known[part_id] for part_id in part_ids]


def _check_size(upload: Upload, parts: Sequence[UploadPart]) -> None:
    size_bytes = sum(part.size_bytes for part in parts)
    if size_bytes != upload.size_bytes:
        message = (
            f"the parts have {size_bytes:,} bytes together, but the upload was announced with {upload.size_bytes:,}"
        )
        raise ApiError(400, "wrong_size", message, param="part_ids")


def _joined(service: Service, upload: Upload, parts: Sequence[UploadPart], md5: str | None) -> tuple[Blob, str, int]:
    """Return all parts as one blob, with the format and number of its rows. A single part is that blob already."""
    inspection = _Inspection(upload, md5, service.settings.max_line_bytes)
    chunks = (chunk for part in parts for chunk in service.blobs.chunks(part.sha256, range(part.size_bytes)))
    if len(parts) == 1:
        if inspection.has_to_read:
            for chunk in chunks:
                inspection.take(chunk)
        return Blob(parts[0].sha256, parts[0].size_bytes), *inspection.finish()
    with service.blobs.writer() as writer:
        for chunk in chunks:
            writer.write(chunk)
            inspection.take(chunk)
        found = inspection.finish()
        return writer.commit(), *found


class _Inspection:
    """Computes the md5 of an upload and checks its rows while its bytes pass by."""

    def __init__(self, upload: Upload, md5: str | None, max_line_bytes: int) -> None:
        self._md5 = md5
        self._digest = None if md5 is None else hashlib.md5(usedforsecurity=False)
        self._checker = None
        if upload.purpose not in STORED_AS_IS:
            self._checker = RowChecker(purpose=upload.purpose, filename=upload.filename, max_line_bytes=max_line_bytes)

    @property
    def has_to_read(self) -> bool:
        return self._digest is not None or self._checker is not None

    def take(self, chunk: bytes) -> None:
        if self._digest is not None:
            self._digest.update(chunk)
        if self._checker is not None:
            self._checker.feed(chunk)

    def finish(self) -> tuple[str, int]:
        """Return the format of the rows and their number.

        Raises:
            ApiError: the md5 is wrong, or the rows have faults.
        """
        if self._digest is not None and self._md5 is not None and self._digest.hexdigest() != self._md5.lower():
            message = f"the md5 of the whole is {self._digest.hexdigest()}, not {self._md5}"
            raise ApiError(400, "wrong_md5", message, param="md5")
        if self._checker is None:
            return "unchecked", 0
        report = self._checker.finish()
        if report.fault_count or report.format is None:
            raise invalid_file(report)
        return report.format, report.row_count


def cancel(service: Service, caller: Caller, upload_id: str) -> UploadObject:
    """Cancel an upload and drop its parts; a cancelled upload stays as it is.

    Raises:
        ApiError: 404, or 409 when it was completed or has expired.
    """
    with service.database.write() as session:
        upload = uploads.lock(session, caller.project_id, upload_id)
        if upload is not None and upload.state == "cancelled":
            return upload_object(upload)
        upload = uploads.end(session, _pending(upload, upload_id), "cancelled")
        uploads.drop_parts(session, upload)
        audit.note(session, "upload.cancel", upload_id)
        return upload_object(upload)
