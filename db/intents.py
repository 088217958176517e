"""Intents: a create that is asked for again, because its answer was lost on the way, makes nothing new.

OpenAI's clients send a lost create up to three times and put no key on it, only the number of the retry. What
they repeat is then known by who asks, where, and the hash of the body.
"""

import time
from typing import NamedTuple

import orjson
from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock
from db.models import Intent, Job
from db.state import ENDED

KEYED_S = 24 * 3600.0
"""So long an Idempotency-Key is remembered."""
RETRY_S = 660.0
"""So long before a retry the try before it was sent at most: clients wait ten minutes for an answer, and then pause."""
OVERTAKEN_S = 600.0
"""So long after its own retry a create may still arrive."""
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class KeyReused(ValueError):
    """An Idempotency-Key came again with another body."""


class Ask(NamedTuple):
    """A create as it came in: by which key, where, under which Idempotency-Key if any, and as which retry; 0: none."""

    key_id: str
    path: str
    idempotency_key: str | None
    body_sha256: str
    retries: int = 0

    @property
    def name(self) -> str:
        return f"body {self.body_sha256}" if self.idempotency_key is None else f"key {self.idempotency_key}"

    @property
    def remembered_s(self) -> float:
        """How long ago that was made at most which it may repeat; what is older is another create's."""
        if self.idempotency_key is not None:
            return KEYED_S
        return min(self.retries * RETRY_S, KEYED_S) if self.retries else OVERTAKEN_S


def take(s: Session, ask: Ask) -> str | None:
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
        if not row.by_retry or _is_over(s, row.answer):
            return None  # the same once more, and meant so: it is nobody's retry
        row.by_retry = False  # overtaken by its own retry on the way here
        s.flush()
    return row.answer


def keep(s: Session, ask: Ask, answer: str) -> None:
    """Remember what was made of an intent that this transaction took."""
    row = _locked(s, ask)
    row.answer, row.body_sha256, row.created_at = answer, ask.body_sha256, time.time()
    row.by_retry = ask.retries > 0 and ask.idempotency_key is None
    s.flush()


def purge(s: Session) -> int:
    """Forget what is older than any retry; how many."""
    old = delete(Intent).where(Intent.created_at < time.time() - KEYED_S).returning(Intent.name)
    return len(s.scalars(old, execution_options={"synchronize_session": False}).all())


def _is_over(s: Session, answer: str) -> bool:
    """Whether what was made is a job that has ended, so that whoever asks for it now wants another."""
    made = select(Job.id).where(Job.id == orjson.loads(answer)["id"], Job.state.in_(ENDED))
    return s.scalars(made).one_or_none() is not None


def _locked(s: Session, ask: Ask) -> Intent:
    fresh = {"key_id": ask.key_id, "path": ask.path, "name": ask.name, "body_sha256": ask.body_sha256}
    values = fresh | {"by_retry": False, "created_at": time.time()}
    s.execute(_INSERT[clock.dialect(s)](Intent).values(values).on_conflict_do_nothing())
    query = select(Intent).where(Intent.key_id == ask.key_id, Intent.path == ask.path, Intent.name == ask.name)
    return s.scalars(query.with_for_update(), execution_options={"populate_existing": True}).one()
