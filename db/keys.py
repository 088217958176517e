"""API keys: shown once, stored as a keyed hash."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from db import paging
from db.ids import new_id
from db.models import ApiKey
from db.scopes import Scope

_RANDOM_BYTES = 32
_PREFIX_LENGTH = 9
_USE_NOTED_S = 60.0


def create(
    s: Session,
    project_id: str,
    name: str,
    secret: bytes,
    *,
    scope: Scope = Scope.ADMIN,
    lasts_s: float | None = None,
) -> tuple[ApiKey, str]:
    """Create a key and its token, `ty-` and 43 characters (256 random bits). The token cannot be recovered."""
    now = time.time()
    token = f"ty-{secrets.token_urlsafe(_RANDOM_BYTES)}"
    key = ApiKey(
        id=new_id("key"),
        project_id=project_id,
        name=name,
        prefix=token[:_PREFIX_LENGTH],
        secret_hash=_hash(token, secret),
        scope=scope.value,
        created_at=now,
        expires_at=None if lasts_s is None else now + lasts_s,
    )
    s.add(key)
    s.flush()
    return key, token


def authenticate(s: Session, token: str, secret: bytes) -> ApiKey | None:
    """Return the key of this token, or None if there is none or it is revoked or expired.

    The token is looked up by its hash under a secret that the client does not know, so the time of the lookup reveals
    nothing about how close a guess is.
    """
    query = select(ApiKey).where(ApiKey.secret_hash == _hash(token, secret), *_working())
    return s.scalars(query).one_or_none()


def working(s: Session, key_id: str) -> ApiKey | None:
    """Return the key with this id, of any project, unless it is revoked or expired."""
    return s.scalars(select(ApiKey).where(ApiKey.id == key_id, *_working())).one_or_none()


def still_working(s: Session, key_ids: Collection[str]) -> set[str]:
    """Return the ids of those of the keys that are neither revoked nor expired."""
    return set(s.scalars(select(ApiKey.id).where(ApiKey.id.in_(key_ids), *_working())))


def get(s: Session, project_id: str, key_id: str) -> ApiKey | None:
    """Return the project's key with this id, revoked or not."""
    return s.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.project_id == project_id)).one_or_none()


def use_is_old(key: ApiKey) -> bool:
    """Return whether the last recorded use is old enough for this one to be recorded."""
    return key.last_used_at is None or key.last_used_at < time.time() - _USE_NOTED_S


def note_use(s: Session, key_id: str) -> None:
    """Record a use of the key now. Of several processes that do so at once, one writes."""
    now = time.time()
    unnoted = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - _USE_NOTED_S)
    s.execute(update(ApiKey).where(ApiKey.id == key_id, unnoted).values(last_used_at=now))


def revoke(s: Session, project_id: str, key_id: str) -> bool:
    """Revoke a key from this commit on, and return whether there was such a key, not yet revoked."""
    revoked = s.scalars(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=time.time())
        .returning(ApiKey.id)
    )
    return revoked.one_or_none() is not None


def any_made(s: Session) -> bool:
    """Return whether any key was ever created."""
    return s.scalars(select(ApiKey.id).limit(1)).first() is not None


def list_keys(s: Session, project_id: str) -> list[ApiKey]:
    """Return the keys of a project, including revoked ones, oldest first."""
    return list(s.scalars(select(ApiKey).where(ApiKey.project_id == project_id).order_by(ApiKey.id)))


def page(s: Session, project_id: str, *, after: str | None, limit: int) -> tuple[list[ApiKey], bool]:
    """Return the keys of a project, including revoked ones, newest first, and whether more follow."""
    query = select(ApiKey).where(ApiKey.project_id == project_id)
    return paging.page(s, query, ApiKey.id, after=after, limit=limit)


def _working() -> tuple[ColumnElement[bool], ...]:
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())


def _hash(token: str, secret: bytes) -> str:
    return hmac.digest(secret, token.encode(errors="surrogatepass"), hashlib.sha256).hex()
