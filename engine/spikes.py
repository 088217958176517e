"""Spikes: steps whose loss or gradient is far above the run's recent ones, or not finite."""

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
"""Steps are not compared before there are this many recent ones."""
_LEVEL_STEPS = 8
"""The number of newest steps whose median is the level that a step is compared with."""
_LOSS_DEVIATIONS, _NORM_DEVIATIONS = 8.0, 10.0
"""In robust standard deviations, estimated from the changes between steps, so that a slope does not count."""
_LOSS_SHARE = 0.2
"""A jump of the loss is also at least this share of its level: a curve may be very smooth."""
_NORM_FACTOR = 20.0
"""A gradient norm is compared by its logarithm, since single large ones are common; it must grow by this factor."""
_ROWS_LOGGED = 20
_MEND = "Lower learning_rate, raise warmup_steps, or check those rows."


@dataclass(frozen=True)
class Outcome:
    """The result of a step before its update is applied."""

    step: int
    loss: float
    grad_norm: float
    rows: Sequence[RowLoss]


class SpikeWatch:
    """Compares each step with the ones before it; its memory is part of the run's progress.

    `files` are the names of the files that the rows are from; if there are several, a row is logged with its file.
    """

    def __init__(self, progress: Progress, action: Action, journal: Journal, files: Sequence[str] = ("",)) -> None:
        self.progress, self.action, self.journal, self.files = progress, action, journal, files

    def allows(self, outcome: Outcome) -> bool:
        """Return whether the step's update is to be applied.

        Raises:
            Diverged: loss or gradient is not finite, or is a spike and `on_loss_spike` is "stop".
        """
        if not (math.isfinite(outcome.loss) and math.isfinite(outcome.grad_norm)):
            raise self._diverged(outcome)
        if self._begins_anew(outcome):
            self.progress.recent_losses.clear()
            self.progress.recent_log_norms.clear()
        if outcome.grad_norm == 0:
            # Such a step learns nothing, as by hinge DPO where every margin is wide enough. A window of them has no
            # spread, and the next step that does learn would stand out.
            return True
        loss = _level(self.progress.recent_losses, outcome.loss, _LOSS_DEVIATIONS, least=_loss_step)
        log_norm = math.log(outcome.grad_norm)
        norm = _level(self.progress.recent_log_norms, log_norm, _NORM_DEVIATIONS, least=_norm_step)
        if loss is not None:
            return self._spike(outcome, f"the loss is {outcome.loss:.4g}, and was about {loss:.4g}", loss)
        if norm is not None:
            message = f"the gradient's norm is {outcome.grad_norm:.4g}, and was about {math.exp(norm):.4g}"
            return self._spike(outcome, message, math.exp(norm))
        return True

    def _begins_anew(self, outcome: Outcome) -> bool:
        """Return whether all of the step's files are new to the run, as where the tail of a mixture begins.

        The losses of other files say nothing about these. The cursor is still that of the step before.
        """
        cursor = self.progress.cursor
        if cursor is None or not outcome.rows:
            return False
        return not any(cursor.places[file].tokens for file in {row.file for row in outcome.rows})

    def _spike(self, outcome: Outcome, cause: str, expected: float) -> bool:
        worst = sorted(outcome.rows, key=_loss, reverse=True)[:_ROWS_LOGGED]
        lines = ", ".join(f"{self._place(row)} ({row.loss:.4g})" for row in worst[:5])
        message = f"{cause} at step {outcome.step}; the lines that lose most: {lines}"
        if self.action == "stop":
            raise Diverged("loss_spike", message, _MEND + " on_loss_spike 'skip' skips such updates.")
        self.journal.log(
            "warn",
            "loss_spike",
            message + ("; its update is skipped" if self.action == "skip" else ""),
            step=outcome.step,
            loss=outcome.loss,
            grad_norm=outcome.grad_norm,
            expected=expected,
            rows=[self._fields(row) for row in worst],
            skipped=self.action == "skip",
        )
        return self.action != "skip"

    def _fields(self, row: RowLoss) -> dict[str, Any]:
        fields = {"line": row.line, "loss": row.loss if math.isfinite(row.loss) else None}
        return fields if len(self.files) == 1 else {"file": self.files[row.file], **fields}

    def _place(self, row: RowLoss) -> str:
        return str(row.line) if len(self.files) == 1 else f"{row.line} of {self.files[row.file]}"

    def _diverged(self, outcome: Outcome) -> Diverged:
        not_finite = [row for row in outcome.rows if not math.isfinite(row.loss)]
        rows = sorted(not_finite or outcome.rows, key=lambda row: (row.file, row.line))
        places = list(dict.fromkeys(map(self._place, rows)))
        lines = ", ".join(places[:_ROWS_LOGGED]) + (", ..." if len(places) > _ROWS_LOGGED else "")
        what = (
            f"the loss is {outcome.loss}"
            if not math.isfinite(outcome.loss)
            else f"the gradient's norm is {outcome.grad_norm}"
        )
        which = "the rows whose own loss is not a number" if not_finite else "its rows"
        return Diverged("diverged", f"{what} at step {outcome.step}; {which} are from lines {lines}", _MEND)


def _loss_step(level: float) -> float:
    return _LOSS_SHARE * abs(level)


def _norm_step(_level: float) -> float:
    return math.log(_NORM_FACTOR)


def _level(recent: list[float], value: float, deviations: float, least: Callable[[float], float]) -> float | None:
    """Record a value; return the level of the values before it if it stands out from them, else None."""
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
