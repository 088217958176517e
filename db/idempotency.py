"""Intents: a create that is asked for again, because its answer was lost on the way, makes nothing new.

OpenAI's clients send a lost create up to three times and put no key on it, only the number of the retry. What
they repeat is then known by who asks, where, and the hash of the body.
"""

import time
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock
from db.models import Intent

KEYED_S = 24 * 3600.0
"""So long an Idempotency-Key is remembered."""
WAITS_S = 600.0
"""So long clients wait for an answer, unless they say otherwise."""
PAUSES_S = 60.0
"""So long at most before a retry."""
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class KeyReused(ValueError):
    """An Idempotency-Key came again with another body."""


class IdempotentRequest(NamedTuple):
    """A create as it came in: by which key, where, under which Idempotency-Key if any, and as which retry; 0: none.

    `waits_s` is how long its client waits for an answer before it tries again.
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
        """How long ago that was made at most which it may repeat; what is older is another create's."""
        if self.idempotency_key is not None:
            return KEYED_S
        tries_s = self.retries * (self.waits_s + PAUSES_S) if self.retries else self.waits_s
        return min(tries_s, KEYED_S)


def take(s: Session, ask: IdempotentRequest) -> str | None:
    """The answer that this intent has got before, or None: the caller then makes what is asked for, and `keep`s it.

    Until this transaction ends, nobody else takes the same intent.

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
            return None  # the same once more, and meant so: it is nobody's retry
        row.by_retry = False  # overtaken by its own retry on the way here
        s.flush()
    return row.answer


def keep(s: Session, ask: IdempotentRequest, answer: str) -> None:
    """Remember what was made of an intent that this transaction took."""
    row = _locked(s, ask)
    row.answer, row.body_sha256, row.created_at = answer, ask.body_sha256, time.time()
    row.by_retry = ask.retries > 0 and ask.idempotency_key is None
    s.flush()


def purge(s: Session) -> int:
    """Forget what is older than any retry; how many."""
    old = delete(Intent).where(Intent.created_at < time.time() - KEYED_S).returning(Intent.name)
    return len(s.scalars(old, execution_options={"synchronize_session": False}).all())


def _locked(s: Session, ask: IdempotentRequest) -> Intent:
    fresh = {"key_id": ask.key_id, "path": ask.path, "name": ask.name, "body_sha256": ask.body_sha256}
    values = fresh | {"by_retry": False, "created_at": time.time()}
    s.execute(_INSERT[clock.dialect(s)](Intent).values(values).on_conflict_do_nothing())
    query = select(Intent).where(Intent.key_id == ask.key_id, Intent.path == ask.path, Intent.name == ask.name)
    return s.scalars(query.with_for_update(), execution_options={"populate_existing": True}).one()
