"""The agenda: what a campaign has to do or to look at later, in time."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple


class Later(NamedTuple):
    """Something that is to be done at a time of the monotonic clock."""

    at: float
    act: Callable[[], None]


class Agenda:
    """Holds what is to be done; somebody has to `tend` it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._later: list[Later] = []

    def __bool__(self) -> bool:
        return bool(self._later)

    def after(self, span_s: tuple[float, float], act: Callable[[], None]) -> None:
        """Have it done at some moment of that span from now."""
        self._later.append(Later(time.monotonic() + self._rng.uniform(*span_s), act))

    def tend(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [later for later in self._later if later.at <= now]
        self._later = [later for later in self._later if later.at > now]
        for later in due:
            later.act()
