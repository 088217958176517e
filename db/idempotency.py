"""Idempotent creates: a request that is repeated because its response was lost creates nothing new.

OpenAI's clients send a lost create up to three times, without an Idempotency-Key but with the number of the retry.
What they repeat is then identified by the API key, the path and the hash of the body. A row of `intents` records each
create.
"""

import time
from typing import NamedTuple

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock
from db.models import Intent

KEYED_S = 24 * 3600.0
"""How long an Idempotency-Key is remembered."""
WAITS_S = 600.0
"""How long clients wait for a response, unless they state another time."""
PAUSES_S = 60.0
"""The longest pause of a client before a retry."""
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class KeyReused(ValueError):
    """An Idempotency-Key was sent again with another body."""


class IdempotentRequest(NamedTuple):
    """A create as it was received: its API key, path, Idempotency-Key if any, body, and number of the retry (0: none).

    `waits_s` is how long its client waits for a response before it tries again.
    """

    key_id: str
    path: str
    idempotency_key: str | None
    body_sha256: str
    retries: int = 0
    waits_s: float = WAITS_S

    @property
    def name(self) -> str:
        return f"body {self.body_sha256}" if self.idempotency_key is None else f"key {self.idempotency_key}"

    @property
    def remembered_s(self) -> float:
        """The greatest age of a create that this request may repeat."""
        if self.idempotency_key is not None:
            return KEYED_S
        tries_s = self.retries * (self.waits_s + PAUSES_S) if self.retries else self.waits_s
        return min(tries_s, KEYED_S)


def take(s: Session, ask: IdempotentRequest) -> str | None:
    """Return the earlier answer to the same create, or None: the caller then carries it out and calls `keep`.

    The same create is locked until this transaction ends.

    Raises:
        KeyReused: the key was used for another body.
    """
    row = _locked(s, ask)
    if row.answer is None or row.created_at < time.time() - ask.remembered_s:
        return None
    if row.body_sha256 != ask.body_sha256:
        raise KeyReused(f"the Idempotency-Key {ask.idempotency_key!r} was used for another body; take a new one")
    if ask.idempotency_key is None and not ask.retries:
        if not row.by_retry:
            return None  # an equal create that is no retry is meant as another one
        row.by_retry = False  # the original request, which its own retry has overtaken
        s.flush()
    return row.answer


def keep(s: Session, ask: IdempotentRequest, answer: str) -> None:
    """Store the answer to a create that this transaction has taken."""
    row = _locked(s, ask)
    row.answer, row.body_sha256, row.created_at = answer, ask.body_sha256, time.time()
    row.by_retry = ask.retries > 0 and ask.idempotency_key is None
    s.flush()


def purge(s: Session, limit: int) -> int:
    """Delete at most `limit` creates that no retry can repeat any longer, and return their number."""
    key = tuple_(Intent.key_id, Intent.path, Intent.name)
    is_old = Intent.created_at < time.time() - KEYED_S
    old = select(Intent.key_id, Intent.path, Intent.name).where(is_old).limit(limit)
    # PostgreSQL looks at the outer condition again once it has a row's lock: the row may have been used anew meanwhile.
    gone = delete(Intent).where(key.in_(old), is_old).returning(Intent.name)
    return len(s.scalars(gone, execution_options={"synchronize_session": False}).all())


def _locked(s: Session, ask: IdempotentRequest) -> Intent:
    fresh = {"key_id": ask.key_id, "path": ask.path, "name": ask.name, "body_sha256": ask.body_sha256}
    values = fresh | {"by_retry": False, "created_at": time.time()}
    s.execute(_INSERT[clock.dialect(s)](Intent).values(values).on_conflict_do_nothing())
    query = select(Intent).where(Intent.key_id == ask.key_id, Intent.path == ask.path, Intent.name == ask.name)
    return s.scalars(query.with_for_update(), execution_options={"populate_existing": True}).one()
