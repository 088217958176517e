"""The loss of a batch, and the sums of such losses over a step or a corpus."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from engine.data.corpus import Corpus
from engine.rowlog import RowLoss


class RowShares(NamedTuple):
    """The share that each label (or pair) has in a batch's total, row by row: `counts` labels for each row."""

    lines: tuple[int, ...]
    counts: tuple[int, ...]
    losses: Tensor
    files: tuple[int, ...] = ()
    """The file of each row, in a mixture."""

    def by_row(self) -> list[RowLoss]:
        counts = np.array(self.counts)
        row_of_each = np.repeat(np.arange(len(counts)), counts)
        totals = np.bincount(row_of_each, self.losses.double().cpu().numpy(), len(counts))
        means = totals / np.maximum(counts, 1)
        files = self.files or (0,) * len(counts)
        return [RowLoss(*row) for row in zip(self.lines, means.tolist(), self.counts, files, strict=True)]


class BatchLoss(NamedTuple):
    """The loss of a batch: `total` and each of the figures, summed over the `counted` labels or pairs.

    Training minimizes `total`; `reported` is the loss to report where `total` has further terms.
    """

    total: Tensor
    counted: int
    figures: dict[str, Tensor]
    shares: RowShares | None = None
    reported: Tensor | None = None


class Sums:
    """The sums of several batches' losses and figures, without their graphs."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.counted = 0
        self.figures: dict[str, Tensor | float] = {}

    def add(self, scored: BatchLoss) -> None:
        self.total = self.total + (scored.total if scored.reported is None else scored.reported).detach()
        self.counted += scored.counted
        for name, value in scored.figures.items():
            self.figures[name] = self.figures[name] + value if name in self.figures else value

    def plain(self) -> "Sums":
        """Return a copy in Python's own numbers, to be sent to other ranks."""
        plain = Sums()
        plain.total, plain.counted = float(self.total), self.counted
        plain.figures = {name: float(value) for name, value in self.figures.items()}
        return plain

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
    """Return the figures of an evaluation by next-token loss.

    Bits per byte are over the text of the labels (of conversations, the answers). End tokens have bits but no bytes, so
    the figure is slightly too high.
    """
    total, mean = float(sums.total), float(sums.total) / sums.counted
    return {
        "eval_loss": mean,
        "eval_perplexity": math.exp(min(mean, 700.0)),
        "eval_bits_per_byte": total / math.log(2) / max(1, corpus.size_bytes()),
        "eval_tokens": float(sums.counted),
        "eval_rows": float(corpus.row_count()),
    }
