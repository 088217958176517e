"""Deaths of trainers, and how long it takes until their jobs are trained again."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from db import records
from db.session import Session
from tests.chaos.service import Claim

_ALL = 100_000


class Death(NamedTuple):
    """A trainer that was killed at work on an attempt, by the clock of the events."""

    claim: Claim
    at: float


class Deaths:
    """Remembers who was killed when."""

    def __init__(self) -> None:
        self._deaths: list[Death] = []

    def note(self, claim: Claim) -> None:
        self._deaths.append(Death(claim, time.time()))

    def recoveries_s(self, s: Session) -> list[float]:
        """From each death to the start of a later attempt's training; a job that had no need of one is left out."""
        found = []
        for death in self._deaths:
            told = records.since(s, death.claim.job_id, 0, _ALL)
            started = [one for one in told if one.type == "started" and (one.attempt or 0) > death.claim.fence]
            if started:
                found.append(started[0].created_at - death.at)
        return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that this share of them does not exceed; None of none."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2) if ordered else None
