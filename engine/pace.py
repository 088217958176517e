"""The expected time left of a run, from the time that its parts took so far."""

import time
from typing import Literal, get_args

Part = Literal["step", "evaluation", "samples", "save"]


class _Mean:
    """A mean in which the nth value counts n - 1 times: later ones say more, and the first, a warm-up, nothing."""

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) * min(1.0, 2.0 / self.count)


class Pace:
    """A clock that is read at the end of each part of a run, so that no time between the parts is lost."""

    def __init__(self) -> None:
        self._means: dict[Part, _Mean] = {part: _Mean() for part in get_args(Part)}
        self.spent_s: dict[str, float] = dict.fromkeys(self._means, 0.0)
        self.start()

    def start(self) -> None:
        """Start the clock: time before this belongs to no part."""
        self._last_at = time.perf_counter()

    def ended(self, part: Part) -> None:
        now = time.perf_counter()
        self._means[part].add(now - self._last_at)
        self.spent_s[part] += now - self._last_at
        self._last_at = now

    def times(self, part: Part) -> int:
        """Return how many parts of a kind have ended."""
        return self._means[part].count

    def left_s(self, parts: dict[Part, int]) -> float:
        """Return the expected seconds for the given number of parts of each kind; kinds not seen yet count as 0."""
        return sum(self._means[part].value * count for part, count in parts.items())
