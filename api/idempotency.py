"""Exactly once: what a create is recognised by when it comes again, and the answer it then gets."""

import hashlib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel

from api.auth import Caller
from api.errors import ApiError
from db import idempotency
from db.idempotency import WAITS_S, IdempotentRequest, KeyReused
from db.session import Session

_MAX_KEY_LENGTH = 255
_MAX_COUNT_LENGTH = 4
ModelT = TypeVar("ModelT", bound=BaseModel)


def ask_of(request: Request, caller: Caller, body: Any) -> IdempotentRequest | None:
    """What the create is known by; None for a client that sends neither an Idempotency-Key nor the retry's number.

    Raises:
        ApiError: 400 for a key that is too long or empty.
    """
    key = request.headers.get("idempotency-key")
    retries = request.headers.get("x-stainless-retry-count")
    if key is None and retries is None:
        return None
    if key is not None and not 1 <= len(key) <= _MAX_KEY_LENGTH:
        message = f"an Idempotency-Key has 1 to {_MAX_KEY_LENGTH} characters, not {len(key):,}"
        raise ApiError(400, "invalid_idempotency_key", message, param="Idempotency-Key")
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    waits_s = _seconds(request.headers.get("x-stainless-read-timeout", ""))
    return IdempotentRequest(caller.key_id, request.url.path, key, digest, _count(retries or ""), waits_s)


def _count(retries: str) -> int:
    """The number of the retry; what is no number is taken for the first one."""
    told = retries.strip().lstrip("0")
    if not told:
        return 0
    return int(told) if told.isascii() and told.isdecimal() and len(told) <= _MAX_COUNT_LENGTH else 1


def _seconds(told: str) -> float:
    """How long a client says that it waits; the usual time if it does not."""
    try:
        seconds = float(told)
    except ValueError:
        return WAITS_S
    return seconds if math.isfinite(seconds) and seconds > 0 else WAITS_S


def once(session: Session, ask: IdempotentRequest | None, model: type[ModelT], make: Callable[[], ModelT]) -> ModelT:
    """What `make` gives, or what it gave when the same was asked before. What it refuses is not remembered.

    Raises:
        ApiError: 400 when the key was used for another body.
    """
    if ask is None:
        return make()
    try:
        answer = idempotency.take(session, ask)
    except KeyReused as error:
        raise ApiError(400, "idempotency_key_reused", str(error), param="Idempotency-Key") from error
    if answer is not None:
        return model.model_validate_json(answer)
    made = make()
    idempotency.keep(session, ask, made.model_dump_json(by_alias=True))
    return made
