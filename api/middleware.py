"""What happens to every request and answer, as one thin ASGI layer."""

import logging
import re
import secrets
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, error_response
from db import log_context

logger = logging.getLogger("trainyard.api")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

# Answers are data: no browser is to run, frame or guess anything in them. /docs sets a policy of its own.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Edge:
    """Gives every answer its request id and security headers, and turns whatever escapes into the envelope.

    What changes something is told in the log, by its answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        log_context.put(request_id=request_id.decode())
        status = 0
        begun = time.monotonic()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _mark(message, request_id)
            await send(message)

        try:
            if _has_nul(scope):
                message = "a NUL character stands in the path or the query"
                await error_response(ApiError(400, "nul_character", message))(scope, receive, send_marked)
                return
            await self.app(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception:
            told_id = request_id.decode()
            logger.exception("%s %s failed (request %s)", scope["method"], scope["path"], told_id)
            if status:
                raise
            message = f"something went wrong on the server; its log tells more under {told_id}"
            await error_response(ApiError(500, "internal_error", message))(scope, receive, send_marked)
        finally:
            if scope["method"] not in _READING:
                told = (scope["method"], scope["path"], status, 1000 * (time.monotonic() - begun))
                logger.info("%s %s was answered %d after %.0f ms", *told)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return b"req-" + secrets.token_hex(12).encode()


def _has_nul(scope: Scope) -> bool:
    return "\x00" in scope["path"] or b"%00" in scope["query_string"]


def _mark(message: Message, request_id: bytes) -> None:
    headers = [*message["headers"], (b"x-request-id", request_id), *_HEADERS]
    if not any(name == _POLICY[0] for name, _ in headers):
        headers.append(_POLICY)
    message["headers"] = headers
