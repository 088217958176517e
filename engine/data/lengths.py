"""The number of tokens of each document that pass through a model."""

import numpy as np

from engine.data.corpus import Corpus, Ints
from engine.data.stream import documents_in_order
from engine.plan import Counts


class Lengths:
    """Per document of a corpus: its own tokens, the tokens that it shares with another, its labels.

    `whole` is the sum of both kinds of tokens. `asked` is the first of its own places from which a label is predicted,
    counted from the beginning of the whole; the length of the whole where there is none.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.shared = np.zeros(len(corpus), np.int64) if corpus.shared is None else corpus.shared
        self.own = corpus.inputs() - self.shared
        before = np.concatenate([[0], np.cumsum(corpus.trained, dtype=np.int64)])
        self._labels: Ints = before[corpus.starts[1:]] - before[corpus.starts[:-1] + 1]
        self.whole = self.own + self.shared
        self.asked = np.minimum(self._first_labels(corpus) - 1, self.whole)

    def _first_labels(self, corpus: Corpus) -> Ints:
        """Return the place of the first label among each document's own tokens; beyond its end without any."""
        labels = np.append(np.flatnonzero(corpus.trained), len(corpus.trained) + 1)
        return labels[np.searchsorted(labels, corpus.starts[:-1] + self.shared + 1)] - corpus.starts[:-1]

    def counts(self, documents: list[int]) -> Counts:
        """Count these documents in one batch."""
        own = self.own[documents]
        attended = float((own.astype(np.float64) * (own + 2 * self.shared[documents])).sum())
        return Counts(1, int(own.sum()), int(self._labels[documents].sum()), attended)


def scoring(corpus: Corpus | None, token_budget: int) -> Counts:
    """Count what one evaluation passes through the model."""
    total = Counts()
    if corpus is not None:
        lengths = Lengths(corpus)
        for documents in documents_in_order(corpus, token_budget):
            total = total.plus(lengths.counts(documents))
    return total
