"""API keys: shown once, kept as a keyed hash."""

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
    """A new key and its token, `ty-` and 43 characters (256 random bits). The token cannot be had again."""
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
    """The key that this token belongs to, or None when there is none or it is over.

    The token is looked up by its hash under a secret the caller does not know, so the time
    that the look-up takes says nothing about how near a guess came.
    """
    query = select(ApiKey).where(ApiKey.secret_hash == _hash(token, secret), *_working())
    return s.scalars(query).one_or_none()


def working(s: Session, key_id: str) -> ApiKey | None:
    """The key of that id, whosever it is, unless it is revoked or expired."""
    return s.scalars(select(ApiKey).where(ApiKey.id == key_id, *_working())).one_or_none()


def still_working(s: Session, key_ids: Collection[str]) -> set[str]:
    """Those of the keys that are neither revoked nor expired."""
    return set(s.scalars(select(ApiKey.id).where(ApiKey.id.in_(key_ids), *_working())))


def get(s: Session, project_id: str, key_id: str) -> ApiKey | None:
    """The project's key of that id, revoked or not."""
    return s.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.project_id == project_id)).one_or_none()


def use_is_old(key: ApiKey) -> bool:
    """Whether its last use was noted so long ago that this one is to be noted."""
    return key.last_used_at is None or key.last_used_at < time.time() - _USE_NOTED_S


def note_use(s: Session, key_id: str) -> None:
    """It is used now. Of several processes that notice at once one writes."""
    now = time.time()
    unnoted = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - _USE_NOTED_S)
    s.execute(update(ApiKey).where(ApiKey.id == key_id, unnoted).values(last_used_at=now))


def revoke(s: Session, project_id: str, key_id: str) -> bool:
    """Whether there was such a key, not revoked yet. It opens nothing from this commit on."""
    revoked = s.scalars(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=time.time())
        .returning(ApiKey.id)
    )
    return revoked.one_or_none() is not None


def any_made(s: Session) -> bool:
    """Whether a key was ever made."""
    return s.scalars(select(ApiKey.id).limit(1)).first() is not None


def list_keys(s: Session, project_id: str) -> list[ApiKey]:
    """The keys of a project, revoked ones too, oldest first."""
    return list(s.scalars(select(ApiKey).where(ApiKey.project_id == project_id).order_by(ApiKey.id)))


def page(s: Session, project_id: str, *, after: str | None, limit: int) -> tuple[list[ApiKey], bool]:
    """The keys of a project, revoked ones too, newest first, and whether more follow."""
    query = select(ApiKey).where(ApiKey.project_id == project_id)
    return paging.page(s, query, ApiKey.id, after=after, limit=limit)


def _working() -> tuple[ColumnElement[bool], ...]:
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > time.time())


def _hash(token: str, secret: bytes) -> str:
    return hmac.digest(secret, token.encode(errors="surrogatepass"), hashlib.sha256).hex()
