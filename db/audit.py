"""The audit log: an entry is written in the transaction of its action, so neither exists without the other."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table, insert, select
from sqlalchemy.orm import Session

from db import log_context, paging
from db.ids import new_id
from db.models import Audit

_INSERT = insert(cast("Table", Audit.__table__))
_WHO = frozenset({"project_id", "key_id", "request_id"})


def note(s: Session, action: str, object_id: str, details: Mapping[str, Any] | None = None) -> None:
    """Record that the caller of the current request carried out an action on an object."""
    note_all(s, action, [(log_context.now(), object_id)], details)


def note_operator(s: Session, project_id: str, action: str, object_id: str, details: Mapping[str, Any]) -> None:
    """Record that the operator carried out an action on an object of the project, directly in the database."""
    request = {"project_id": project_id, "key_id": None, "request_id": None}
    note_all(s, action, [(request, object_id)], details)


def note_all(
    s: Session,
    action: str,
    acts: Sequence[tuple[Mapping[str, Any], str]],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record one action on several objects, each with the ids of its request.

    Actions of the service itself, without a request, are not recorded.
    """
    common = {"created_at": time.time(), "action": action, "details": details}
    rows = [
        {"id": new_id("audit"), "object_id": object_id} | common | {name: request[name] for name in _WHO}
        for request, object_id in acts
        if request.keys() >= _WHO
    ]
    if rows:
        s.execute(_INSERT, rows)


def page(
    s: Session,
    *,
    after: str | None,
    limit: int,
    project_id: str | None = None,
    key_id: str | None = None,
    object_id: str | None = None,
) -> tuple[list[Audit], bool]:
    """Return entries, of all projects if none is given, newest first, and whether more follow."""
    query = select(Audit)
    for column, wanted in ((Audit.project_id, project_id), (Audit.key_id, key_id), (Audit.object_id, object_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    return paging.page(s, query, Audit.id, after=after, limit=limit)
