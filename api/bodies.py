"""JSON request bodies: limited in size and depth, and parsed more strictly than by Python's json module."""

from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.errors import ApiError, Fault
from api.validation import invalid
from engine.rows import MAX_DEPTH, is_too_deep


async def read_json(request: Request, max_bytes: int) -> Any:
    """Return the body as a JSON value.

    orjson rejects what Python's json module accepts although it is not JSON: NaN, lone surrogates. A value that nests too
    deep could be read but not stored.

    Raises:
        ApiError: 415, 413 or 400.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        message = f"this route reads application/json, not {content_type[:100] or 'a body without content type'}"
        raise ApiError(415, "unsupported_media_type", message)
    body = await _read(request, max_bytes)
    if not body.strip():
        raise ApiError(400, "empty_body", "the body is empty; send a JSON object")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fault = Fault(code="not_json", path="", message=error.msg, line=error.lineno, column=error.colno)
        message = f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise ApiError(400, "not_json", message, faults=[fault]) from error
    if is_too_deep(value):
        raise ApiError(400, "too_deep", f"the body nests deeper than {MAX_DEPTH} levels; flatten it")
    return value


async def _read(request: Request, max_bytes: int) -> bytes:
    """Return the body, counting its actual bytes rather than trusting Content-Length."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ApiError(413, "body_too_large", f"the body is larger than {max_bytes:,} bytes")
    return bytes(body)


ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_as(model: type[ModelT], request: Request, max_bytes: int) -> ModelT:
    """Return the body, validated as that model.

    Raises:
        ApiError: 415, 413, 400 or 422.
    """
    body = await read_json(request, max_bytes)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), body) from error


def documented_body(model: type[BaseModel], content_type: str = "application/json") -> dict[str, Any]:
    """Return the OpenAPI entry of a route that reads its JSON body by itself."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {content_type: {"schema": _inlined(schema, parts)}}}}


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """Return the schema with every reference replaced by the part that it names."""
    if isinstance(schema, list):
        return [_inlined(item, parts) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref", "")
    if reference:
        return _inlined(parts[reference.rpartition("/")[2]], parts)
    return {key: _inlined(value, parts) for key, value in schema.items() if key != "discriminator"}
