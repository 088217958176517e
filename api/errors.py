"""The one error envelope: every answer that is not a success has it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException


class Fault(BaseModel):
    """One thing that is wrong, where, and how to mend it. Lines and columns count from 1."""

    code: str
    path: str
    message: str
    line: int | None = None
    column: int | None = None
    value: str | None = None
    hint: str | None = None


class ErrorBody(BaseModel):
    """`code` is stable for programs, `message` is for people, `param` names the part of the request.

    For files, `errors` lists the first faults, `fault_count` and `counts` count all of them.
    """

    message: str
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    param: str | None = None
    code: str
    errors: list[Fault] = []
    fault_count: int | None = None
    counts: dict[str, int] | None = None


class ErrorEnvelope(BaseModel):
    """What every error answer is."""

    error: ErrorBody


class ApiError(HTTPException):
    """An answer that is not a success."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        faults: Sequence[Fault] = (),
        counts: dict[str, int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.body = ErrorBody(
            message=message,
            type=_type_of(status),
            param=param,
            code=code,
            errors=list(faults),
            fault_count=None if counts is None else sum(counts.values()),
            counts=counts,
        )


def _type_of(
    status: int,
) -> Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]:
    if status in {401, 429}:
        return "authentication_error" if status == 401 else "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def not_found(what: str, reference: str) -> ApiError:
    """The answer for what is not there, or is another project's."""
    code = what.replace(" ", "_") + "_not_found"
    return ApiError(404, code, f"there is no {what} {reference[:100]!r} in this project")


def conflict(code: str, message: str) -> ApiError:
    """A state that another try will not change; the header keeps clients from retrying."""
    return ApiError(409, code, message, headers={"x-should-retry": "false"})


def error_response(error: ApiError) -> Response:
    """The envelope as an answer."""
    content = ErrorEnvelope(error=error.body).model_dump_json()
    return Response(content, error.status_code, error.headers, media_type="application/json")


# What a status means on any route, for OpenAPI.
_MEANING = {
    400: "The request cannot be read: not JSON, not multipart, or a file with faults.",
    401: "No key, a wrong key, or a revoked one.",
    403: "The key lacks the scope that this takes, or a browser's session did not send its CSRF token.",
    404: "Not there, or another project's.",
    409: "The state of the object does not allow it.",
    413: "Too large.",
    415: "Not the content type that this route reads.",
    416: "The range lies outside of the file.",
    429: "The key asks too often; Retry-After tells when to come again.",
    422: "Readable, but not valid.",
    503: "Not ready.",
    507: "The disk is nearly full.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI entry. Any route refuses a NUL in its path or query with a 400."""
    return {status: {"model": ErrorEnvelope, "description": _MEANING[status]} for status in sorted({400, *statuses})}
