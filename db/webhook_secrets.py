"""The secrets that webhooks are signed with. None is stored: each is derived from the service's secret."""

import base64
import hashlib
import hmac
import secrets

PREFIX = "whsec_"
_BYTES = 30
"""A multiple of three: base64 without padding."""


class WebhookSecrets:
    """Signs deliveries according to the Standard Webhooks specification."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"trainyard webhooks", hashlib.sha256)

    def secret_of(self, endpoint_id: str, nonce: str) -> str:
        """Return the secret with which the receiver verifies signatures."""
        return PREFIX + base64.b64encode(self._key(endpoint_id, nonce)).decode()

    def signature(self, endpoint_id: str, nonce: str, signed: str) -> str:
        """Return the signature of `signed`, which is `id.timestamp.body`."""
        digest = hmac.digest(self._key(endpoint_id, nonce), signed.encode(), hashlib.sha256)
        return f"v1,{base64.b64encode(digest).decode()}"

    def _key(self, endpoint_id: str, nonce: str) -> bytes:
        return hmac.digest(self._secret, f"{endpoint_id}.{nonce}".encode(), hashlib.sha512)[:_BYTES]


def new_nonce() -> str:
    """Return a random nonce; each nonce gives a receiver another secret."""
    return secrets.token_hex(16)
