"""What a loss function says of a batch, and what its sums over a corpus come to."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from engine.data.corpus import Corpus
from engine.rowlog import RowLoss


class RowShares(NamedTuple):
    """What of a batch's total each label has, or each pair; row by row, `counts` of them a row."""

    lines: tuple[int, ...]
    counts: tuple[int, ...]
    losses: Tensor
    files: tuple[int, ...] = ()
    """Of a mixture."""

    def by_row(self) -> list[RowLoss]:
        counts = np.array(self.counts)
        row_of_each = np.repeat(np.arange(len(counts)), counts)
        totals = np.bincount(row_of_each, self.losses.double().cpu().numpy(), len(counts))
        means = totals / np.maximum(counts, 1)
        files = self.files or (0,) * len(counts)
        return [RowLoss(*row) for row in zip(self.lines, means.tolist(), self.counts, files, strict=True)]


class Scored(NamedTuple):
    """`total` is summed over all that the kind counts (labels, pairs), and so is each of the figures.

    It is what training makes small; `reported` is the loss that is told where there is more in it.
    """

    total: Tensor
    counted: int
    figures: dict[str, Tensor]
    shares: RowShares | None = None
    reported: Tensor | None = None


class Sums:
    """The sums over several batches, without their graphs."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.counted = 0
        self.figures: dict[str, Tensor | float] = {}

    def add(self, scored: Scored) -> None:
        self.total = self.total + (scored.total if scored.reported is None else scored.reported).detach()
        self.counted += scored.counted
        for name, value in scored.figures.items():
            self.figures[name] = self.figures[name] + value if name in self.figures else value

    def plain(self) -> "Sums":
        """The same in Python's own numbers, to be told to other ranks."""
        told = Sums()
        told.total, told.counted = float(self.total), self.counted
        told.figures = {name: float(value) for name, value in self.figures.items()}
        return told

    @classmethod
    def joined(cls, parts: Iterable["Sums"]) -> "Sums":
        made = cls()
        for part in parts:
            made.total = made.total + part.total
            made.counted += part.counted
            for name, value in part.figures.items():
                made.figures[name] = made.figures.get(name, 0.0) + value
        return made

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.counted for name, value in self.figures.items()}


def token_summary(sums: Sums, corpus: Corpus) -> dict[str, float]:
    """Figures of next-token losses.

    Bits per byte count the text behind the labels (answers for conversations); the bits of end tokens are in,
    their bytes are none, so the figure errs upwards by them.
    """
    total, mean = float(sums.total), float(sums.total) / sums.counted
    return {
        "eval_loss": mean,
        "eval_perplexity": math.exp(min(mean, 700.0)),
        "eval_bits_per_byte": total / math.log(2) / max(1, corpus.size_bytes()),
        "eval_tokens": float(sums.counted),
        "eval_rows": float(corpus.row_count()),
    }
