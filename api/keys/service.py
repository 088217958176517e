"""Keys: admins make and revoke those of their project."""

from api.answers import Page
from api.auth import Caller, missing_scope
from api.deps import Service
from api.errors import conflict, not_found
from api.keys.schemas import KeyObject, KeyRequest, NewKeyObject, key_object
from db import audit, keys
from db.models import ApiKey
from db.scopes import Scope
from db.session import Session


def create(service: Service, caller: Caller, wanted: KeyRequest) -> NewKeyObject:
    """Make a key of the caller's project, and return it with its token."""
    with service.database.write() as session:
        key, token = keys.create(
            session, caller.project_id, wanted.name, service.keyring.secret,
            scope=Scope(wanted.scope), lasts_s=wanted.expires_after_s,
        )  # fmt: skip
        audit.note(session, "key.create", key.id, wanted.model_dump())
    return NewKeyObject(**key_object(key).model_dump(), token=token)


def page(service: Service, caller: Caller, *, after: str | None, limit: int) -> Page[KeyObject]:
    with service.database.read() as session:
        rows, has_more = keys.page(session, caller.project_id, after=after, limit=limit)
    return Page.of([key_object(row) for row in rows], has_more)


def show(service: Service, caller: Caller, key_id: str) -> KeyObject:
    with service.database.read() as session:
        return key_object(_find(session, caller, key_id))


def revoke(service: Service, caller: Caller, key_id: str) -> KeyObject:
    """Revoke a key, which is refused within a second; one that was revoked before stays as it is.

    Raises:
        ApiError: 404, 403 for an operator's key, or 409 for the key in use, which may be the project's last.
    """
    with service.database.write() as session:
        key = _find(session, caller, key_id)
        scope = Scope(key.scope)
        if not caller.scope.covers(scope):
            raise missing_scope(caller, scope)
        if key_id == caller.key_id:
            raise conflict(
                "key_in_use", "this is the key that you are using; make another one and revoke this one with it"
            )
        if keys.revoke(session, caller.project_id, key_id):
            audit.note(session, "key.revoke", key_id, {"name": key.name, "scope": key.scope})
            session.refresh(key)
        return key_object(key)


def _find(session: Session, caller: Caller, key_id: str) -> ApiKey:
    key = keys.get(session, caller.project_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    return key
