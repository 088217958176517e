"""How long the rest of a run takes, judged by how long its parts took so far."""

import time
from typing import Literal, get_args

Part = Literal["step", "evaluation", "samples", "save"]


class _Mean:
    """A mean in which the nth figure counts n - 1 times: later ones tell more, and the first, which warms up, nothing."""

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, figure: float) -> None:
        self.count += 1
        self.value += (figure - self.value) * min(1.0, 2.0 / self.count)


class Pace:
    """A clock that is told at the end of each part of a run, so that nothing between the parts goes uncounted."""

    def __init__(self) -> None:
        self._means: dict[Part, _Mean] = {part: _Mean() for part in get_args(Part)}
        self.spent_s: dict[str, float] = dict.fromkeys(self._means, 0.0)
        self.start()

    def start(self) -> None:
        """What was before belongs to no part."""
        self._told_at = time.perf_counter()

    def ended(self, part: Part) -> None:
        now = time.perf_counter()
        self._means[part].add(now - self._told_at)
        self.spent_s[part] += now - self._told_at
        self._told_at = now

    def times(self, part: Part) -> int:
        """How many there were."""
        return self._means[part].count

    def left_s(self, parts: dict[Part, int]) -> float:
        """For that many parts of each kind; one that has not been seen yet counts for nothing."""
        return sum(self._means[part].value * count for part, count in parts.items())
