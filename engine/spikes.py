"""Steps that stand out: a loss or gradient far above the run's own recent ones, or no number at all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from engine.checkpoint import Progress
from engine.errors import Diverged
from engine.journal import Journal
from engine.rowlog import RowLoss

Action = Literal["warn", "skip", "stop"]

_WINDOW = 64
_FROM_STEPS = 16
"""Fewer recent steps than this say too little."""
_LEVEL_STEPS = 8
"""The newest steps, whose median is the level that a step is compared with."""
_LOSS_DEVIATIONS, _NORM_DEVIATIONS = 8.0, 10.0
"""In units of a robust standard deviation, taken from the changes between steps, so that a slope does not count."""
_LOSS_SHARE = 0.2
"""A jump of the loss is also at least this share of what it was: a curve may be very smooth."""
_NORM_FACTOR = 20.0
"""A gradient's norm is compared by its logarithm, for single large ones are common; it must be this many times as large."""
_ROWS_TOLD = 20
_MEND = "Lower learning_rate, raise warmup_steps, or look at those rows."


@dataclass(frozen=True)
class Outcome:
    """What a step came to, before its update is applied."""

    step: int
    loss: float
    grad_norm: float
    rows: Sequence[RowLoss]


class SpikeWatch:
    """Compares each step with the ones before it; what it remembers is part of the run's progress.

    `files` are the names of those that the rows are from; where there are several, a row is told with its file.
    """

    def __init__(self, progress: Progress, action: Action, journal: Journal, files: Sequence[str] = ("",)) -> None:
        self.progress, self.action, self.journal, self.files = progress, action, journal, files

    def allows(self, outcome: Outcome) -> bool:
        """Whether the step's update is to be applied.

        Raises:
            Diverged: loss or gradient is not a number, or stands out where `on_loss_spike` is "stop".
        """
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.grad_norm)):
            raise self._diverged(outcome)
        if self._begins_anew(outcome):
            self.progress.recent_losses.clear()
            self.progress.recent_log_norms.clear()
        loss = _level(self.progress.recent_losses, outcome.loss, _LOSS_DEVIATIONS, least=_loss_step)
        log_norm = math.log(max(outcome.grad_norm, 1e-30))
        norm = _level(self.progress.recent_log_norms, log_norm, _NORM_DEVIATIONS, least=_norm_step)
        if loss is not None:
            return self._spike(outcome, f"the loss is {outcome.loss:.4g}, and was about {loss:.4g}", loss)
        if norm is not None:
            told = f"the gradient's norm is {outcome.grad_norm:.4g}, and was about {math.exp(norm):.4g}"
            return self._spike(outcome, told, math.exp(norm))
        return True

    def _begins_anew(self, outcome: Outcome) -> bool:
        """Whether nothing was drawn before from any of the step's files, as where a mixture's tail begins.

        What the ones before it lost says nothing of these. The cursor is still that of the step before.
        """
        cursor = self.progress.cursor
        if cursor is None or not outcome.rows:
            return False
        return not any(cursor.places[file].tokens for file in {row.file for row in outcome.rows})

    def _spike(self, outcome: Outcome, told: str, expected: float) -> bool:
        worst = sorted(outcome.rows, key=_loss, reverse=True)[:_ROWS_TOLD]
        lines = ", ".join(f"{self._place(row)} ({row.loss:.4g})" for row in worst[:5])
        message = f"{told} at step {outcome.step}; the lines that lose most: {lines}"
        if self.action == "stop":
            raise Diverged("loss_spike", message, _MEND + " on_loss_spike 'skip' leaves such steps out.")
        self.journal.log(
            "warn",
            "loss_spike",
            message + ("; its update is left out" if self.action == "skip" else ""),
            step=outcome.step,
            loss=outcome.loss,
            grad_norm=outcome.grad_norm,
            expected=expected,
            rows=[self._told(row) for row in worst],
            skipped=self.action == "skip",
        )
        return self.action != "skip"

    def _told(self, row: RowLoss) -> dict[str, Any]:
        told = {"line": row.line, "loss": row.loss if math.isfinite(row.loss) else None}
        return told if len(self.files) == 1 else {"file": self.files[row.file], **told}

    def _place(self, row: RowLoss) -> str:
        return str(row.line) if len(self.files) == 1 else f"{row.line} of {self.files[row.file]}"

    def _diverged(self, outcome: Outcome) -> Diverged:
        not_finite = [row for row in outcome.rows if not math.isfinite(row.loss)]
        rows = sorted(not_finite or outcome.rows, key=lambda row: (row.file, row.line))
        places = list(dict.fromkeys(map(self._place, rows)))
        told = ", ".join(places[:_ROWS_TOLD]) + (", ..." if len(places) > _ROWS_TOLD else "")
        what = (
            f"the loss is {outcome.loss}"
            if not math.isfinite(outcome.loss)
            else f"the gradient's norm is {outcome.grad_norm}"
        )
        which = "the rows whose own loss is no number" if not_finite else "its rows"
        return Diverged("diverged", f"{what} at step {outcome.step}; {which} are from lines {told}", _MEND)


def _loss_step(level: float) -> float:
    return _LOSS_SHARE * abs(level)


def _norm_step(_level: float) -> float:
    return math.log(_NORM_FACTOR)


def _level(recent: list[float], value: float, deviations: float, least: Callable[[float], float]) -> float | None:
    """Take the value in; the level of those before it, when it stands out from it."""
    before = list(recent)
    recent.append(value)
    del recent[:-_WINDOW]
    if len(before) < _FROM_STEPS:
        return None
    level = median(before[-_LEVEL_STEPS:])
    spread = 1.4826 / math.sqrt(2) * median(abs(later - earlier) for earlier, later in pairwise(before))
    return level if value > level + max(deviations * spread, least(level)) else None


def _loss(row: RowLoss) -> float:
    return row.loss if math.isfinite(row.loss) else math.inf
