"""API keys: shown once, kept as a keyed hash."""

import hashlib
import hmac
import secrets
import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.ids import new_id
from db.models import ApiKey

_RANDOM_BYTES = 32
_PREFIX_LENGTH = 9


def create(s: Session, project_id: str, name: str, secret: bytes, *, admin: bool = False) -> tuple[ApiKey, str]:
    """A new key and its token, `ty-` and 43 characters (256 random bits). The token cannot be had again."""
    token = f"ty-{secrets.token_urlsafe(_RANDOM_BYTES)}"
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        prefix=token[:_PREFIX_LENGTH],
        secret_hash=_hash(token, secret),
        admin=admin,
        created_at=time.time(),
    )
    s.add(key)
    s.flush()
    return key, token


def authenticate(s: Session, token: str, secret: bytes) -> ApiKey | None:
    """The key that this token belongs to, or None when there is none or it is revoked.

    The token is looked up by its hash under a secret the caller does not know, so the time
    that the look-up takes says nothing about how near a guess came.
    """
    query = select(ApiKey).where(ApiKey.secret_hash == _hash(token, secret), ApiKey.revoked_at.is_(None))
    return s.scalars(query).one_or_none()


def working(s: Session, key_id: str) -> ApiKey | None:
    """The key of that id, whosever it is, unless it is revoked."""
    return s.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))).one_or_none()


def revoke(s: Session, project_id: str, key_id: str) -> bool:
    """Whether there was such a key, not revoked yet. It opens nothing from this commit on."""
    revoked = s.scalars(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=time.time())
        .returning(ApiKey.id)
    )
    return revoked.one_or_none() is not None


def list_keys(s: Session, project_id: str) -> list[ApiKey]:
    """The keys of a project, revoked ones too, oldest first."""
    return list(s.scalars(select(ApiKey).where(ApiKey.project_id == project_id).order_by(ApiKey.id)))


def _hash(token: str, secret: bytes) -> str:
    return hmac.digest(secret, token.encode(errors="surrogatepass"), hashlib.sha256).hex()
