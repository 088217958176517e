"""Signed manifests: the installation's Ed25519 key (RFC 8032), and DSSE envelopes signed with it.

DSSE (https://github.com/secure-systems-lab/dsse) signs the type and the exact bytes of a statement, so that no canonical
form of JSON is needed.
"""

import base64
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.private import write_private

PAYLOAD_TYPE = "application/vnd.trainyard.manifest+json"


class Signature(BaseModel):
    """A signature in base64 (`sig`); `keyid` is the sha256 of the public key's 32 bytes."""

    keyid: str
    sig: str


class Envelope(BaseModel):
    """A signed statement, whose bytes are in base64 in `payload`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    payload_type: str = Field(default=PAYLOAD_TYPE)
    payload: str
    signatures: list[Signature]


class Signer:
    """Signs with the key `signing-key` in the installation's folder, which is made on first use with mode 0600."""

    def __init__(self, home: Path) -> None:
        self._path = home / "signing-key"

    def make(self) -> None:
        """Make the key unless it exists."""
        if not self._path.exists():
            secret = Ed25519PrivateKey.generate()
            pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(self._path, pem.decode(), keep=True)

    def sign(self, statement: dict[str, Any]) -> Envelope:
        """Return the signed statement. Raises ValueError when the key's file holds no key."""
        payload = json.dumps(statement, sort_keys=True).encode()
        sig = self._key.sign(encoded(PAYLOAD_TYPE, payload))
        signature = Signature(keyid=self.key_id, sig=base64.b64encode(sig).decode())
        return Envelope(payload=base64.b64encode(payload).decode(), signatures=[signature])

    @property
    def public_pem(self) -> str:
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def key_id(self) -> str:
        return hashlib.sha256(self._key.public_key().public_bytes_raw()).hexdigest()

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        self.make()
        try:
            key = load_pem_private_key(self._path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(
                f"{self._path} holds no private key: restore the key that earlier manifests were signed with"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{self._path} holds a key of another kind than Ed25519")  # noqa: TRY004 - a file's content
        return key


def encoded(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a payload, which is what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)
