"""How often a key may ask: a bucket of a minute's requests for each key, filled again evenly.

Each API process counts for itself and in memory, so that counting costs no look-up: behind a balancer over N processes a
key gets N times the limit at most.
"""

import math
import time
from collections.abc import Callable

_MINUTE_S = 60.0
_SWEPT_AT = 10_000
_ROUNDING = 1e-9


class Rates:
    """The buckets of one process."""

    def __init__(self, requests_per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = requests_per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, key_id: str) -> int | None:
        """Count a request; None when it may be answered, else the seconds until the next may, 60 at most."""
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
        """What has not been asked for a minute has a full bucket again, as one that was never asked."""
        self._left = {key_id: kept for key_id, kept in self._left.items() if now - kept[0] < _MINUTE_S}
