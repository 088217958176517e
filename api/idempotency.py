"""Idempotent creates: how a repeated request is recognised, and the answer that it then gets."""

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
    """Return what identifies a create; None for a client that sends neither an Idempotency-Key nor a retry count.

    Raises:
        ApiError: 400 for a key that is empty or too long.
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
    """Return the number of the retry; anything but a number counts as the first one."""
    digits = retries.strip().lstrip("0")
    if not digits:
        return 0
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_COUNT_LENGTH else 1


def _seconds(header: str) -> float:
    """Return the client's read timeout, or the usual one if it sends none."""
    try:
        seconds = float(header)
    except ValueError:
        return WAITS_S
    return seconds if math.isfinite(seconds) and seconds > 0 else WAITS_S


def once(session: Session, ask: IdempotentRequest | None, model: type[ModelT], make: Callable[[], ModelT]) -> ModelT:
    """Return what `make` returns, or what it returned when the same request came before. A refusal is not remembered.

    Raises:
        ApiError: 400 when the key was used for another body.
    """
    if ask is None:
        return make()
    known = remembered(session, ask, model)
    if known is not None:
        return known
    made = make()
    idempotency.keep(session, ask, made.model_dump_json(by_alias=True))
    return made


def remembered(session: Session, ask: IdempotentRequest, model: type[ModelT]) -> ModelT | None:
    """Return the answer that the same request got before, if any. Until the transaction ends no other makes one.

    Raises:
        ApiError: 400 when the key was used for another body.
    """
    try:
        answer = idempotency.take(session, ask)
    except KeyReused as error:
        raise ApiError(400, "idempotency_key_reused", str(error), param="Idempotency-Key") from error
    return None if answer is None else model.model_validate_json(answer)
