"""Authentication by API keys and by the sessions opened with them, and authorization by scopes.

A key is looked up in the database at most once a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase

from api.errors import ApiError
from api.rates import Rates
from api.scopes import READING, needed
from api.session.seal import COOKIE, CSRF_HEADER, Seal, same
from db import budgets, keys, log_context
from db.errors import Unavailable
from db.models import ApiKey
from db.scopes import Scope
from db.session import Database, Session

logger = logging.getLogger("trainyard.api")

# Less than the second within which a revoked key must be refused.
_REMEMBERED_S = 0.8
_MAX_REMEMBERED = 10_000
_MAX_TOKEN_LENGTH = 200


class Caller(NamedTuple):
    """The key and the project of a request, the key's scope, and whether the key or the project has a budget."""

    key_id: str
    project_id: str
    scope: Scope = Scope.ADMIN
    limited: bool = False


class Keyring:
    """Looks up keys, and caches valid ones for a moment."""

    def __init__(self, database: Database, secret: bytes, rates: Rates) -> None:
        self._database = database
        self.secret = secret
        self._remembered: dict[str, tuple[float, Caller]] = {}
        self.seal = Seal(secret)
        self.rates = rates

    async def caller(self, token: str) -> Caller | None:
        """Return the caller whose key this is, or None when the key is unknown, revoked or expired."""
        if not token.startswith("ty-") or len(token) > _MAX_TOKEN_LENGTH:
            return None
        return await self._known(token, lambda session: keys.authenticate(session, token, self.secret))

    async def caller_of_key(self, key_id: str) -> Caller | None:
        """Return the caller of a session by its key's id, or None when the key is revoked or expired."""
        return await self._known(key_id, lambda session: keys.working(session, key_id))

    async def _known(self, name: str, find: Callable[[Session], ApiKey | None]) -> Caller | None:
        now = time.monotonic()
        known = self._remembered.get(name)
        if known is not None and now - known[0] < _REMEMBERED_S:
            return known[1]
        key, limited = await to_thread.run_sync(self._look_up, find)
        if key is None:
            self._remembered.pop(name, None)
            return None
        caller = Caller(key.id, key.project_id, Scope(key.scope), limited)
        if keys.use_is_old(key):  # at most once a minute, in the background
            asyncio.get_running_loop().run_in_executor(None, self._note_use, key.id)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = (now, caller)  # the time from before the look-up
        return caller

    def _look_up(self, find: Callable[[Session], ApiKey | None]) -> tuple[ApiKey | None, bool]:
        """Return the key, and whether a budget limits it, so that requests of unlimited keys need no look-up of budgets."""
        with self._database.read() as session:
            key = find(session)
            return key, key is not None and budgets.limits(session, key)

    def _note_use(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                keys.note_use(session, key_id)
        except Unavailable as error:  # a database that takes no writes still answers reads
            logger.warning("the last use of %s could not be recorded: %s", key_id, error)


class Guard(SecurityBase):
    """The dependency that authenticates a request by its key or session, and returns a caller with the route's scope."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(description="An API key: `Authorization: Bearer ty-…`")
        self.scheme_name = "ApiKey"

    async def __call__(self, request: Request) -> Caller:
        caller = await self._caller(request)
        # Log lines and the audit log name the caller.
        log_context.put(project_id=caller.project_id, key_id=caller.key_id)
        wait_s = request.app.state.service.keyring.rates.wait_s(caller.key_id)
        if wait_s is not None:
            raise _rate_limited(caller, wait_s)
        scope = needed(request.scope["route"].name, request.method)
        if not caller.scope.covers(scope):
            raise missing_scope(caller, scope)
        return caller

    async def _caller(self, request: Request) -> Caller:
        keyring: Keyring = request.app.state.service.keyring
        given = request.headers.get("authorization")
        if given is None and COOKIE in request.cookies:
            return await _of_session(keyring, request)
        scheme, _, token = (given or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("missing_key", "no API key: send it as `Authorization: Bearer ty-...`")
        caller = await keyring.caller(token)
        if caller is None:
            raise wrong_key()
        project_id = request.headers.get("openai-project", caller.project_id)
        if project_id != caller.project_id:
            message = (
                f"the header OpenAI-Project names {project_id[:100]!r}, but the key belongs to {caller.project_id}"
            )
            raise _unauthorized("mismatched_project", message)
        return caller


GUARD = Depends(Guard())
CallerDep = Annotated[Caller, GUARD]


async def _of_session(keyring: Keyring, request: Request) -> Caller:
    """Return the caller of a session. Changes need its CSRF token, since browsers send cookies by themselves."""
    ticket = keyring.seal.open(request.cookies[COOKIE])
    caller = None if ticket is None else await keyring.caller_of_key(ticket.key_id)
    if ticket is None or caller is None:
        raise _unauthorized("session_ended", "the session has ended; sign in again")
    if request.method not in READING and not same(request.headers.get(CSRF_HEADER, ""), ticket.csrf_token):
        message = "a request of a session that changes something needs the X-CSRF-Token header; GET /v1/session returns its value"
        raise ApiError(403, "csrf_token_missing", message)
    return caller


def wrong_key() -> ApiError:
    """Return the error for a key that is unknown, revoked or expired."""
    return _unauthorized("invalid_key", "this API key is wrong or has been revoked")


def missing_scope(caller: Caller, scope: Scope) -> ApiError:
    """Return the error for a key whose scope does not include the required one."""
    message = f"this needs a key with the scope {scope.value!r}; {caller.key_id} has the scope {caller.scope.value!r}"
    return ApiError(403, "missing_scope", message, param=scope.value)


def _rate_limited(caller: Caller, wait_s: int) -> ApiError:
    message = f"{caller.key_id} sends too many requests; try again in {wait_s} s"
    return ApiError(429, "rate_limited", message, headers={"Retry-After": str(wait_s)})


def _unauthorized(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": 'Bearer realm="trainyard"'})
