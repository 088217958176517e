"""The secrets that webhooks are signed with: none is stored, each follows from the service's own."""

import base64
import hashlib
import hmac
import secrets

PREFIX = "whsec_"
_BYTES = 30
"""A multiple of three: base64 without padding."""


class Signing:
    """Signs what is sent to a receiver, as the Standard Webhooks specification says."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"trainyard webhooks", hashlib.sha256)

    def secret_of(self, endpoint_id: str, nonce: str) -> str:
        """What the receiver checks signatures with."""
        return PREFIX + base64.b64encode(self._key(endpoint_id, nonce)).decode()

    def signature(self, endpoint_id: str, nonce: str, signed: str) -> str:
        """Of `id.timestamp.body`."""
        digest = hmac.digest(self._key(endpoint_id, nonce), signed.encode(), hashlib.sha256)
        return f"v1,{base64.b64encode(digest).decode()}"

    def _key(self, endpoint_id: str, nonce: str) -> bytes:
        return hmac.digest(self._secret, f"{endpoint_id}.{nonce}".encode(), hashlib.sha512)[:_BYTES]


def new_nonce() -> str:
    """With another one, a receiver has another secret."""
    return secrets.token_hex(16)
