"""The rows of a file as an evaluation reads them, counted without a model."""

from typing import NamedTuple, Self

import numpy as np

from engine.data.corpus import Ints
from engine.data.supply import Seen
from engine.plan import Counts


class Reading(NamedTuple):
    """The length of each row as it is in the file, what is made of the rows, and the lines that lost something."""

    lengths: Ints
    documents: int
    tokens: int
    labels: int
    truncated: list[int]
    dropped: list[int]
    untrained: list[int]

    @classmethod
    def of_documents(cls, seen: Seen) -> Self:
        corpus, cut = seen.cut.corpus, seen.cut
        tokens, labels = int(corpus.inputs().sum()), corpus.labels()
        return cls(seen.lengths, len(corpus), tokens, labels, cut.truncated, cut.dropped, cut.untrained)

    @classmethod
    def of_prompts(cls, lengths: list[int], documents: int, passed: Counts, cut: list[int]) -> Self:
        """Count prompts: `lengths` are those of each row's longest one, `passed` is what goes through the model."""
        return cls(np.array(lengths, np.int64), documents, passed.tokens, passed.labels, cut, [], [])
