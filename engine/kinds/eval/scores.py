"""The scores of a model on the rows of a file, item by item, and the metrics computed from them."""

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
    """What scoring needs besides the model and the rows. No row is longer than `max_length` tokens."""

    spec: EvalSpec
    machine: Machine
    journal: Journal
    stop: StopFlag
    ranks: Ranks
    max_length: int
    passes: Passes
    """Counts what goes through the model; scoring adds to it."""

    @property
    def token_budget(self) -> int:
        return self.passes.room_tokens


@dataclass(frozen=True)
class Scores:
    """The scores of a model: `lines`, `items` and every figure are over the same items in the same order."""

    lines: list[int]
    figures: dict[str, Figure]
    items: list[dict[str, Any]]
    facts: dict[str, float] = field(default_factory=dict)
    """Metrics that are not a mean over the items."""
    shares: bool = False
    """Whether the figures are shares of right answers, which have intervals of their own."""
    groups: list[str] = field(default_factory=list)
    """The subject of each item, where the rows have one."""

    def metrics(self) -> dict[str, float | None]:
        metrics: dict[str, float | None] = {}
        for name, figure in self.figures.items():
            metrics[name] = figure.mean
            bounds = wilson(figure.mean, len(self.lines)) if self.shares else ratio(figure)
            if bounds is not None:
                metrics |= with_bounds(name, *bounds)
        return metrics | self.facts

    def by_group(self) -> dict[str, dict[str, float | None]]:
        """Return the metrics of each subject."""
        by_subject: dict[str, dict[str, float | None]] = {}
        names = np.array(self.groups)
        for group in sorted(set(self.groups) - {""}):
            rows = names == group
            by_subject[group] = {name: figure.take(rows).mean for name, figure in self.figures.items()}
            by_subject[group]["eval_rows"] = float(rows.sum())
        return by_subject


def compared(one: Scores, other: Scores, seed: int) -> dict[str, float | None]:
    """Return the other model's metrics, and their differences to those of `one` on the same items.

    Raises:
        SpecError: the two were not scored on the same items.
    """
    if one.lines != other.lines:
        raise SpecError(
            "rows_differ",
            "the two models' tokenizers leave different rows to score, so these cannot be paired",
            "Compare models with the same tokenizer, or raise max_length.",
        )
    metrics: dict[str, float | None] = {}
    for name in one.figures.keys() & other.figures.keys():
        figures = one.figures[name], other.figures[name]
        metrics[f"compare_to/{name}"] = figures[1].mean
        metrics[f"difference/{name}"] = figures[0].mean - figures[1].mean
        bounds = paired_difference(*figures, seed)
        if bounds is not None:
            metrics |= with_bounds(f"difference/{name}", *bounds)
    return dict(sorted(metrics.items()))


def with_bounds(name: str, low: float, high: float) -> dict[str, float | None]:
    return {f"{name}_low": low, f"{name}_high": high}
