"""JSON bodies: read with a cap, and stricter than Python's own parser."""

from typing import Any

import orjson
from fastapi import Request

from api.errors import ApiError, Fault


async def read_json(request: Request, max_bytes: int) -> Any:
    """The body as a JSON value.

    orjson refuses what is not JSON though Python reads it (NaN, lone surrogates), and what is too deep.

    Raises:
        ApiError: 415, 413 or 400.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        message = f"this route reads application/json, not {content_type[:100] or 'a body of no content type'}"
        raise ApiError(415, "unsupported_media_type", message)
    body = await _capped(request, max_bytes)
    if not body.strip():
        raise ApiError(400, "empty_body", "the body is empty; send a JSON object")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fault = Fault(code="not_json", path="", message=error.msg, line=error.lineno, column=error.colno)
        message = f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise ApiError(400, "not_json", message, faults=[fault]) from error


async def _capped(request: Request, max_bytes: int) -> bytes:
    """The body; what it is, not what Content-Length says, is counted."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ApiError(413, "body_too_large", f"the body is larger than {max_bytes:,} bytes")
    return bytes(body)
