"""Bytes going out: blobs, whole or by range, and several of them as one tar archive."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import Request, Response
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse

from api.errors import ApiError
from db.blobs import BlobStore

_CHUNK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_BLOCK = tarfile.BLOCKSIZE

# OpenAPI entries of routes that answer with bytes.
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
BINARY: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes.", **_BYTES},
    206: {"description": "The range asked for.", **_BYTES},
    304: {"description": "Unchanged: the ETag is the one in If-None-Match."},
}
ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An uncompressed tar archive; SHA256SUMS in it is for `sha256sum -c`.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def blob_response(request: Request, blobs: BlobStore, *, sha256: str, size_bytes: int, filename: str) -> Response:
    """A blob; its ETag is its sha256, and a single `Range` is honoured."""
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
        wanted = ""  # the client holds a part of something else
    span = _span(wanted, size_bytes)
    headers["Content-Length"] = str(span.stop - span.start)
    status = 200
    if len(span) != size_bytes:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size_bytes}"
    chunks = iterate_in_threadpool(_chunks(blobs, sha256, span))
    return StreamingResponse(chunks, status, headers, media_type="application/octet-stream")


def _span(wanted: str, size_bytes: int) -> range:
    """The bytes that a Range header asks for. What is no single range is left out of account, as HTTP has it."""
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


def _chunks(blobs: BlobStore, sha256: str, span: range) -> Iterator[bytes]:
    with blobs.open(sha256) as file:
        file.seek(span.start)
        left = len(span)
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"the blob {sha256} ends {left} bytes early")
            left -= len(chunk)
            yield chunk


class Member(NamedTuple):
    """A file of an archive."""

    path: str
    sha256: str
    size_bytes: int


def archive_response(blobs: BlobStore, members: Sequence[Member], *, digest: str, filename: str) -> Response:
    """The members as one tar, the same bytes every time, made while it is sent."""
    members = sorted(members)
    sums = "".join(f"{member.sha256}  {member.path}\n" for member in members).encode()
    entries = [(_header(member.path, member.size_bytes), member) for member in members]
    last = _header("SHA256SUMS", len(sums)) + sums + _padding(len(sums)) + bytes(2 * _BLOCK)
    sizes = [len(header) + member.size_bytes + len(_padding(member.size_bytes)) for header, member in entries]
    headers = {
        "ETag": f'"tar-{digest}"',
        "Content-Length": str(sum(sizes) + len(last)),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
    }
    chunks = iterate_in_threadpool(_archive(blobs, entries, last))
    return StreamingResponse(chunks, 200, headers, media_type="application/x-tar")


def _archive(blobs: BlobStore, entries: Sequence[tuple[bytes, Member]], last: bytes) -> Iterator[bytes]:
    for header, member in entries:
        yield header
        yield from _chunks(blobs, member.sha256, range(member.size_bytes))
        yield _padding(member.size_bytes)
    yield last


def _header(path: str, size_bytes: int) -> bytes:
    """A tar header without anything that differs from one time to the next."""
    entry = tarfile.TarInfo(path)
    entry.size = size_bytes
    entry.mode = 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % _BLOCK)
