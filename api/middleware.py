"""The ASGI middleware that every request and response passes through."""

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

# Responses are data, which browsers must not run, frame or sniff. /docs and the dashboard set policies of their own.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_DEFAULTS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),  # responses may hold secrets, which no cache is to keep
)
"""Headers of responses that do not set them themselves, as downloads and the dashboard's files do."""


_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Edge:
    """Adds the request id and security headers to every response, and turns unhandled exceptions into the envelope.

    Requests that may change something are logged with their status and duration.
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
                message = "the path or the query contains a NUL character"
                await error_response(ApiError(400, "nul_character", message))(scope, receive, send_marked)
                return
            await self.app(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception:
            shown_id = request_id.decode()
            logger.exception("%s %s failed (request %s)", scope["method"], scope["path"], shown_id)
            if status:
                raise
            message = f"something went wrong on the server; its log has the details under {shown_id}"
            await error_response(ApiError(500, "internal_error", message))(scope, receive, send_marked)
        finally:
            if scope["method"] not in _READING:
                took_ms = 1000 * (time.monotonic() - begun)
                logger.info("%s %s was answered %d after %.0f ms", scope["method"], scope["path"], status, took_ms)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return b"req-" + secrets.token_hex(12).encode()


def _has_nul(scope: Scope) -> bool:
    return "\x00" in scope["path"] or b"%00" in scope["query_string"]


def _mark(message: Message, request_id: bytes) -> None:
    own = {name for name, _ in message["headers"]}
    defaults = (header for header in _DEFAULTS if header[0] not in own)
    message["headers"] = [*message["headers"], (b"x-request-id", request_id), *_HEADERS, *defaults]
