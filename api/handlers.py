"""Exception handlers: every exception that may leave a route becomes an error response."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.errors import ApiError, conflict, error_response
from api.validation import invalid
from db.errors import BlobsUnavailable, InUse, LowSpace, Unavailable, UnstorableText

logger = logging.getLogger("trainyard.api")

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def add_handlers(app: FastAPI) -> None:
    """Register the handlers with the application."""
    app.exception_handler(HTTPException)(_on_http)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(LowSpace)(_on_low_space)
    app.exception_handler(InUse)(_on_in_use)
    app.exception_handler(UnstorableText)(_on_unstorable_text)
    app.exception_handler(Unavailable)(_on_unavailable)


async def _on_http(request: Request, error: HTTPException) -> Response:
    if isinstance(error, ApiError):
        return error_response(error)
    if error.status_code == 404:
        message = f"there is no route {request.url.path[:200]!r}; /docs lists all routes"
        return error_response(ApiError(404, "route_not_found", message))
    if error.status_code == 405:
        allowed = _allowed(request)
        message = f"{request.method[:20]} is not allowed here; allowed: {allowed}"
        return error_response(ApiError(405, "method_not_allowed", message, headers={"Allow": allowed}))
    return error_response(ApiError(error.status_code, "http_error", str(error.detail), headers=error.headers))


def _allowed(request: Request) -> str:
    """Return all methods of the path; the framework itself names those of the first route only."""
    routes = request.app.router.routes
    return ", ".join(
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )


async def _on_invalid(_request: Request, error: RequestValidationError) -> Response:
    return error_response(invalid({**problem, "loc": problem["loc"][1:]} for problem in error.errors()))


async def _on_low_space(_request: Request, error: LowSpace) -> Response:
    logger.warning("507: %s", error)
    message = (
        "the disk is nearly full, so nothing is taken in; delete files, models or adapters that are not needed (their "
        "bytes are freed within an hour; the result file of a job holds its adapter too), or give it more space"
    )
    return error_response(ApiError(507, "low_space", message, headers={"Retry-After": "30"}))


async def _on_in_use(_request: Request, error: InUse) -> Response:
    return error_response(conflict("in_use", str(error)))


async def _on_unstorable_text(_request: Request, error: UnstorableText) -> Response:
    message = f"the database cannot hold the text of a value, which may have a NUL character in it: {error}"
    return error_response(ApiError(400, "invalid_value", message))


async def _on_unavailable(request: Request, error: Unavailable) -> Response:
    logger.error("503 on %s: %s", request.url.path, error)
    part = "blob store" if isinstance(error, BlobsUnavailable) else "database"
    message = f"the {part} cannot answer now; try again"
    code = f"{part.replace(' ', '_')}_unavailable"
    return error_response(ApiError(503, code, message, headers={"Retry-After": "5"}))
