"""What the rows of a file come to as an evaluation reads them."""

from typing import NamedTuple, Self

import numpy as np

from engine.data.corpus import Ints
from engine.data.supply import Seen
from engine.plan import Counts


class Reading(NamedTuple):
    """Tokens of each row as it stands in the file; what became of them, and the lines that lost something."""

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
        """`lengths` are those of the rows' longest prompts, `passed` is what goes through the model."""
        return cls(np.array(lengths, np.int64), documents, passed.tokens, passed.labels, cut, [], [])
