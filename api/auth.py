"""Who is asking, and whether they may: API keys and the sessions opened with them, and what the route takes.

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

# A revoked key is refused within a second, whatever the cache remembers.
_REMEMBERED_S = 0.8
_MAX_REMEMBERED = 10_000
_MAX_TOKEN_LENGTH = 200


class Caller(NamedTuple):
    """The key and the project that a request comes from, how far the key reaches, and whether one of them has a budget."""

    key_id: str
    project_id: str
    scope: Scope = Scope.ADMIN
    limited: bool = False


class Keyring:
    """The keys seen in the last moment. Only right ones are remembered."""

    def __init__(self, database: Database, secret: bytes, rates: Rates) -> None:
        self._database = database
        self.secret = secret
        self._remembered: dict[str, tuple[float, Caller]] = {}
        self.seal = Seal(secret)
        self.rates = rates

    async def caller(self, token: str) -> Caller | None:
        """Whose key this is, or None when it is nobody's (any more)."""
        if not token.startswith("ty-") or len(token) > _MAX_TOKEN_LENGTH:
            return None
        return await self._known(token, lambda session: keys.authenticate(session, token, self.secret))

    async def caller_of_key(self, key_id: str) -> Caller | None:
        """Who has the key of that id, or None when it is revoked: the caller of a session."""
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
        if keys.use_is_old(key):  # at most once a minute, and nobody waits for it
            asyncio.get_running_loop().run_in_executor(None, self._note_use, key.id)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = (now, caller)  # counted from before the look-up
        return caller

    def _look_up(self, find: Callable[[Session], ApiKey | None]) -> tuple[ApiKey | None, bool]:
        """The key, and whether it has a budget: who has none never asks for it again."""
        with self._database.read() as session:
            key = find(session)
            return key, key is not None and budgets.limits(session, key)

    def _note_use(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                keys.note_use(session, key_id)
        except Unavailable as error:  # a database that takes no writes still answers reads
            logger.warning("the use of %s is not noted: %s", key_id, error)


class Guard(SecurityBase):
    """`Authorization: Bearer ty-…`, or a browser's session, as a dependency that gives the caller of a route it may call."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(description="An API key: `Authorization: Bearer ty-…`")
        self.scheme_name = "ApiKey"

    async def __call__(self, request: Request) -> Caller:
        caller = await self._caller(request)
        log_context.put(
            project_id=caller.project_id, key_id=caller.key_id
        )  # log lines and the audit log name the caller
        wait_s = request.app.state.service.keyring.rates.wait_s(caller.key_id)
        if wait_s is not None:
            raise _too_often(caller, wait_s)
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
            message = f"the header OpenAI-Project names {project_id[:100]!r}; the key is one of {caller.project_id}"
            raise _unauthorized("mismatched_project", message)
        return caller


GUARD = Depends(Guard())
CallerDep = Annotated[Caller, GUARD]


async def _of_session(keyring: Keyring, request: Request) -> Caller:
    """The caller of a session. What changes something must carry its CSRF token: a cookie is sent by itself."""
    ticket = keyring.seal.open(request.cookies[COOKIE])
    caller = None if ticket is None else await keyring.caller_of_key(ticket.key_id)
    if ticket is None or caller is None:
        raise _unauthorized("session_ended", "the session has ended; sign in again")
    if request.method not in READING and not same(request.headers.get(CSRF_HEADER, ""), ticket.csrf_token):
        message = "a session's changes must carry the X-CSRF-Token that GET /v1/session tells"
        raise ApiError(403, "csrf_token_missing", message)
    return caller


def wrong_key() -> ApiError:
    """The answer to a key that is nobody's."""
    return _unauthorized("invalid_key", "this API key is wrong or has been revoked")


def missing_scope(caller: Caller, scope: Scope) -> ApiError:
    """The answer to a key that does not reach so far."""
    message = f"this takes a key with the scope {scope.value!r}; the scope of {caller.key_id} is {caller.scope.value!r}"
    return ApiError(403, "missing_scope", message, param=scope.value)


def _too_often(caller: Caller, wait_s: int) -> ApiError:
    message = f"{caller.key_id} asks too often; the next request is answered in {wait_s} s"
    return ApiError(429, "rate_limited", message, headers={"Retry-After": str(wait_s)})


def _unauthorized(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": 'Bearer realm="trainyard"'})
