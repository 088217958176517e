"""Rate limits: a token bucket for each key, which holds a minute's requests and refills evenly.

Each API process counts in its own memory, so that counting costs no look-up: behind a load balancer over N processes, a
key gets at most N times the limit.
"""

import math
import time
from collections.abc import Callable

_MINUTE_S = 60.0
_SWEPT_AT = 10_000
_ROUNDING = 1e-9


class Rates:
    """The token buckets of one process."""

    def __init__(self, requests_per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = requests_per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, key_id: str) -> int | None:
        """Count a request. Returns None when it is within the limit, otherwise the seconds until the next is, at most 60."""
        if self._most is None:
            return None
        now = self._clock()
        before, left = self._left.get(key_id, (now, float(self._most)))
        left = min(self._most, left + (now - before) * self._most / _MINUTE_S)
        if left < 1 - _ROUNDING:
            self._left[key_id] = now, left
            return math.ceil((1 - left) * _MINUTE_S / self._most - _ROUNDING)
        if len(self._left) >= _SWEPT_AT:
            self._forget_full(now)
        self._left[key_id] = now, left - 1
        return None

    def _forget_full(self, now: float) -> None:
        """Drop the buckets of keys that were not used for a minute, which are full again."""
        self._left = {key_id: kept for key_id, kept in self._left.items() if now - kept[0] < _MINUTE_S}
