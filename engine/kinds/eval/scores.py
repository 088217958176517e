"""What a model scored on the rows of a file, item by item, and the figures that come of it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from engine.dist.ranks import Ranks
from engine.errors import SpecError
from engine.intervals import Figure, paired_difference, ratio, wilson
from engine.journal import Journal
from engine.kinds.eval.spec import EvalSpec
from engine.passes import Passes
from engine.precision import Machine
from engine.stop import StopFlag


class Setting(NamedTuple):
    """What scoring a model takes beside the model and the rows. No row is longer than `max_length` tokens."""

    spec: EvalSpec
    machine: Machine
    journal: Journal
    stop: StopFlag
    ranks: Ranks
    max_length: int
    passes: Passes
    """What goes through the model, which scoring adds to."""

    @property
    def token_budget(self) -> int:
        return self.passes.room_tokens


@dataclass(frozen=True)
class Scores:
    """`lines`, `items` and every figure tell of the same items in the same order."""

    lines: list[int]
    figures: dict[str, Figure]
    items: list[dict[str, Any]]
    facts: dict[str, float] = field(default_factory=dict)
    """Figures that are no mean over the items."""
    shares: bool = False
    """The figures are shares of right answers: their intervals are those of shares."""
    groups: list[str] = field(default_factory=list)
    """The subject of each item, where the rows have one."""

    def metrics(self) -> dict[str, float | None]:
        told: dict[str, float | None] = {}
        for name, figure in self.figures.items():
            told[name] = figure.mean
            bounds = wilson(figure.mean, len(self.lines)) if self.shares else ratio(figure)
            if bounds is not None:
                told |= with_bounds(name, *bounds)
        return told | self.facts

    def by_group(self) -> dict[str, dict[str, float | None]]:
        """The figures of each subject by itself."""
        told: dict[str, dict[str, float | None]] = {}
        names = np.array(self.groups)
        for group in sorted(set(self.groups) - {""}):
            rows = names == group
            told[group] = {name: figure.take(rows).mean for name, figure in self.figures.items()}
            told[group]["eval_rows"] = float(rows.sum())
        return told


def compared(one: Scores, other: Scores, seed: int) -> dict[str, float | None]:
    """The other model's figures, and by how much the one's differ from them on the same items.

    Raises:
        SpecError: the two were not scored on the same items.
    """
    if one.lines != other.lines:
        raise SpecError(
            "rows_differ",
            "the two models' tokenizers leave different rows to score, so these cannot be paired",
            "Compare models with the same tokenizer, or raise max_length.",
        )
    told: dict[str, float | None] = {}
    for name in one.figures.keys() & other.figures.keys():
        figures = one.figures[name], other.figures[name]
        told[f"compare_to/{name}"] = figures[1].mean
        told[f"difference/{name}"] = figures[0].mean - figures[1].mean
        told |= with_bounds(f"difference/{name}", *paired_difference(*figures, seed))
    return dict(sorted(told.items()))


def with_bounds(name: str, low: float, high: float) -> dict[str, float | None]:
    return {f"{name}_low": low, f"{name}_high": high}
