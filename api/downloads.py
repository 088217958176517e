"""Downloads: blobs, whole or by range, and several of them as one tar archive."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.errors import ApiError
from api.protocol import SEND_FILE, SendFile
from db.archives import Archive, Member
from db.blobs import BlobStore

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

# OpenAPI entries of routes that answer with bytes.
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BINARY: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole content.", **_BYTES},
    206: {"description": "The requested range.", **_BYTES},
    304: {"description": "Unchanged: the ETag is the one in If-None-Match."},
}
ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An uncompressed tar archive, with a SHA256SUMS file for `sha256sum -c`.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def blob_response(request: Request, blobs: BlobStore, *, sha256: str, size_bytes: int, filename: str) -> Response:
    """Return a response with a blob; its ETag is its sha256, and a single `Range` is honoured."""
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "Cache-Control": "private, no-cache",
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:
        wanted = ""  # the client has a part of other content
    span = _span(wanted, size_bytes)
    headers["Content-Length"] = str(span.stop - span.start)
    status = 200
    if len(span) != size_bytes:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size_bytes}"
    return BlobResponse(blobs, sha256, span, status, headers)


class BlobResponse(StreamingResponse):
    """A response with bytes of a blob, sent by the kernel where the blob is a file and the connection allows it."""

    def __init__(self, blobs: BlobStore, sha256: str, span: range, status: int, headers: dict[str, str]) -> None:
        chunks = iterate_in_threadpool(blobs.chunks(sha256, span))
        super().__init__(chunks, status, headers, media_type="application/octet-stream")
        self._blobs, self._sha256, self._span = blobs, sha256, span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send_file: SendFile | None = scope.get(SEND_FILE)
        if send_file is None or not self._blobs.has_files:
            await super().__call__(scope, receive, send)
            return
        with self._blobs.open(self._sha256) as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send_file(file.fileno(), self._span)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _span(wanted: str, size_bytes: int) -> range:
    """Return the bytes that a Range header selects; anything but a single range is ignored, as RFC 9110 allows."""
    match = _RANGE.fullmatch(wanted.replace(" ", ""))
    if match is None or not any(match.groups()):
        return range(size_bytes)
    first, last = match.groups()
    if not first:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(size_bytes, int(last) + 1) if last else size_bytes
    if last and first and int(last) < int(first):
        return range(size_bytes)
    if start >= size_bytes:
        headers = {"Content-Range": f"bytes */{size_bytes}"}
        raise ApiError(416, "range_not_satisfiable", f"the file has {size_bytes} bytes", headers=headers)
    return range(start, stop)


def archive_response(blobs: BlobStore, members: Sequence[Member], *, digest: str, filename: str) -> Response:
    """Return a response with the members as one tar, made while it is sent and the same bytes every time."""
    archive = Archive(blobs, members)
    headers = {
        "ETag": f'"tar-{digest}"',
        "Content-Length": str(archive.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
    }
    chunks = iterate_in_threadpool(archive.chunks())
    return StreamingResponse(chunks, 200, headers, media_type="application/x-tar")
