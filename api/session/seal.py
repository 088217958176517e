"""Session tokens of browsers: signed by this service, with the key that signed in and the expiry."""

import hashlib
import hmac
import secrets
import time
from typing import NamedTuple

COOKIE = "trainyard_session"
CSRF_HEADER = "x-csrf-token"
LASTS_S = 14 * 24 * 3600
_NONCE_BYTES = 16


class Ticket(NamedTuple):
    """An open session: its key, when it ends (Unix seconds), and the token that its changes must send."""

    key_id: str
    expires_at: int
    csrf_token: str


class Seal:
    """Makes and verifies session tokens. Nothing is stored: a session ends when it expires or its key is revoked."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"trainyard sessions", hashlib.sha256)

    def issue(self, key_id: str) -> tuple[str, Ticket]:
        """Open a session: return the cookie's value, and what it stands for."""
        expires_at = int(time.time()) + LASTS_S
        body = f"{key_id}.{expires_at}.{secrets.token_urlsafe(_NONCE_BYTES)}"
        return f"{body}.{self._sign(body)}", Ticket(key_id, expires_at, self._csrf(body))

    def open(self, token: str) -> Ticket | None:
        """Return what a cookie stands for; None when it is not genuine or has expired."""
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            return None
        key_id, expires_at, _ = body.split(".")
        if int(expires_at) <= time.time():
            return None
        return Ticket(key_id, int(expires_at), self._csrf(body))

    def _sign(self, body: str) -> str:
        return hmac.digest(self._secret, b"session:" + body.encode(errors="surrogatepass"), hashlib.sha256).hex()

    def _csrf(self, body: str) -> str:
        return hmac.digest(self._secret, b"csrf:" + body.encode(), hashlib.sha256).hex()


def same(given: str, wanted: str) -> bool:
    """Compare two tokens in constant time."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), wanted.encode())
