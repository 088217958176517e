"""Who is asking: API keys, looked up in the database at most once a second each."""

import time
from typing import NamedTuple

from anyio import to_thread
from fastapi import Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase

from api.errors import ApiError
from db import keys
from db.session import Database

# A revoked key is refused within a second, whatever the cache remembers.
_REMEMBERED_S = 0.8
_MAX_REMEMBERED = 10_000
_MAX_TOKEN_LENGTH = 200


class Caller(NamedTuple):
    """The key and the project that a request comes from."""

    key_id: str
    project_id: str


class Keyring:
    """The keys seen in the last moment. Only right ones are remembered."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret
        self._remembered: dict[str, tuple[float, Caller]] = {}

    async def caller(self, token: str) -> Caller | None:
        """Whose key this is, or None when it is nobody's (any more)."""
        now = time.monotonic()
        known = self._remembered.get(token)
        if known is not None and now - known[0] < _REMEMBERED_S:
            return known[1]
        caller = await to_thread.run_sync(self._look_up, token)
        if caller is None:
            self._remembered.pop(token, None)
            return None
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[token] = (now, caller)  # counted from before the look-up
        return caller

    def _look_up(self, token: str) -> Caller | None:
        with self._database.read() as session:
            key = keys.authenticate(session, token, self._secret)
            return None if key is None else Caller(key.id, key.project_id)


class ApiKeyScheme(SecurityBase):
    """`Authorization: Bearer ty-…`, as a dependency that gives the caller."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(description="An API key: `Authorization: Bearer ty-…`")
        self.scheme_name = "ApiKey"

    async def __call__(self, request: Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("missing_key", "no API key: send it as `Authorization: Bearer ty-...`")
        keyring: Keyring = request.app.state.service.keyring
        caller = await keyring.caller(token) if token.startswith("ty-") and len(token) <= _MAX_TOKEN_LENGTH else None
        if caller is None:
            raise _unauthorized("invalid_key", "this API key is wrong or has been revoked")
        return caller


def _unauthorized(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"WWW-Authenticate": 'Bearer realm="trainyard"'})
