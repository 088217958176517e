"""Ids that sort by the time of their creation."""

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return `prefix-` and a ULID in lower-case Crockford base32: 48 bits of milliseconds, 80 random bits.

    Within one process each id is greater than the one before, even within a millisecond
    or when the clock goes back.
    """
    global _last  # noqa: PLW0603 - the last id is the state that makes ids rise
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BITS // 8))
    with _lock:
        _last = number = fresh if fresh > _last else _last + 1
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_LENGTH))]
    return f"{prefix}-{''.join(digits)}"
