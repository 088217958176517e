"""The error envelope, which is the body of every response that is not a success."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException


class Fault(BaseModel):
    """One fault in a request: where it is and how to mend it. Lines and columns count from 1."""

    code: str
    path: str
    message: str
    line: int | None = None
    column: int | None = None
    value: str | None = None
    hint: str | None = None


class ErrorBody(BaseModel):
    """The content of an error: `code` is stable for programs, `message` is for people, `param` names the part at fault.

    For files, `errors` lists the first faults; `fault_count` and `counts` count all of them.
    """

    message: str
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    param: str | None = None
    code: str
    errors: list[Fault] = []
    fault_count: int | None = None
    counts: dict[str, int] | None = None


class ErrorEnvelope(BaseModel):
    """The body of an error response."""

    error: ErrorBody


class ApiError(HTTPException):
    """An exception that becomes an error response."""

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
    """Return the error for an object that does not exist or belongs to another project."""
    code = what.replace(" ", "_") + "_not_found"
    return ApiError(404, code, f"there is no {what} {reference[:100]!r} in this project")


def conflict(code: str, message: str) -> ApiError:
    """Return the error for a state that a retry will not change; a header keeps clients from retrying."""
    return ApiError(409, code, message, headers={"x-should-retry": "false"})


def error_response(error: ApiError) -> Response:
    """Return the response that carries an error in its envelope."""
    content = ErrorEnvelope(error=error.body).model_dump_json()
    return Response(content, error.status_code, error.headers, media_type="application/json")


# The descriptions of statuses in the OpenAPI document.
_MEANING = {
    400: "The request cannot be parsed, or a file has faults.",
    401: "The API key is missing, wrong or revoked.",
    403: "The key lacks the required scope or budget, or a browser's session did not send its CSRF token.",
    404: "The object does not exist in this project.",
    409: "The state of the object does not allow this.",
    413: "The request is too large.",
    415: "The content type is not the one that this route reads.",
    416: "The range lies outside the file.",
    429: "There are too many requests; Retry-After says when to try again.",
    422: "The request can be parsed but is not valid.",
    503: "The service, or a part of it, is not available.",
    507: "The disk is nearly full.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for OpenAPI; every route answers a NUL in its path or query with 400."""
    return {status: {"model": ErrorEnvelope, "description": _MEANING[status]} for status in sorted({400, *statuses})}
