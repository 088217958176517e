"""How much of a corpus passes through a model, document by document."""

import numpy as np

from engine.data.corpus import Corpus, Ints
from engine.data.stream import documents_in_order
from engine.plan import Counts


class Lengths:
    """Of the documents of a corpus: tokens of their own, those that they take over from another, labels.

    `whole` is both, and `asked` the first place of its own, counted with what it takes over, that a label is predicted
    from; its length: none is.
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
        """The first token of each document's own that is one, counted from its beginning; without any, beyond its end."""
        labels = np.append(np.flatnonzero(corpus.trained), len(corpus.trained) + 1)
        return labels[np.searchsorted(labels, corpus.starts[:-1] + self.shared + 1)] - corpus.starts[:-1]

    def counts(self, documents: list[int]) -> Counts:
        """Of these in one batch."""
        own = self.own[documents]
        attended = float((own.astype(np.float64) * (own + 2 * self.shared[documents])).sum())
        return Counts(1, int(own.sum()), int(self._labels[documents].sum()), attended)


def scoring(corpus: Corpus | None, token_budget: int) -> Counts:
    """What one evaluation passes through the model."""
    total = Counts()
    if corpus is not None:
        lengths = Lengths(corpus)
        for documents in documents_in_order(corpus, token_budget):
            total = total.plus(lengths.counts(documents))
    return total
