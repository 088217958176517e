"""The order in which rows are trained on: a pure function of (seed, epoch), so a cursor is two numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from engine.data.corpus import Batch, Corpus, batch_of
from engine.data.packing import pack


@dataclass
class Cursor:
    """The next step to take: step `position` of epoch `epoch`."""

    epoch: int = 0
    position: int = 0


class RowStream:
    """Steps of micro-batches, for ever: each epoch holds every document once, in its own order.

    Documents that belong together stay so. `step_rows` are the rows of a micro-batch and the micro-batches of a step. An epoch's rows are spread evenly over its steps, so no step is much smaller than the others.
    """

    def __init__(
        self, corpus: Corpus, *, seed: int, row_tokens: int, step_rows: tuple[int, int], packing: bool
    ) -> None:
        self.corpus = corpus
        self.seed = seed
        self.row_tokens = row_tokens
        self.batch_rows, self.accumulation = step_rows
        self.packing = packing
        self.cursor = Cursor()
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def _make_plan(self, epoch: int) -> list[list[list[int]]]:
        """The epoch's steps, each a list of rows, each a list of documents."""
        rng = np.random.default_rng((self.seed, epoch))
        lengths = self.corpus.examples()
        order = rng.permutation(len(lengths))
        if self.packing:
            packed = pack(lengths, order, self.row_tokens)
            packed = [packed[i] for i in rng.permutation(len(packed))]
        else:
            packed = [[int(example)] for example in order]
        rows = [self.corpus.documents_of(examples) for examples in packed]
        steps = math.ceil(len(rows) / (self.batch_rows * self.accumulation))
        bounds = [len(rows) * i // steps for i in range(steps + 1)]
        return [rows[begin:end] for begin, end in pairwise(bounds)]

    def steps_in(self, epochs: float) -> int:
        """How many steps that many epochs take; at least one."""
        whole = int(epochs)
        steps = sum(len(self._plan(epoch)) for epoch in range(whole))
        if epochs > whole:
            steps += round((epochs - whole) * len(self._plan(whole)))
        return max(1, steps)

    def epoch(self) -> float:
        """How far the cursor is, in epochs."""
        return self.cursor.epoch + self.cursor.position / len(self._plan(self.cursor.epoch))

    def next_step(self) -> list[Batch]:
        """The micro-batches of the cursor's step; the cursor moves on."""
        plan = self._plan(self.cursor.epoch)
        rows = plan[self.cursor.position]
        self.cursor.position += 1
        if self.cursor.position == len(plan):
            self.cursor = Cursor(self.cursor.epoch + 1, 0)
        return [
            batch_of(self.corpus, [document for row in rows[start : start + self.batch_rows] for document in row])
            for start in range(0, len(rows), self.batch_rows)
        ]


def batches_in_order(corpus: Corpus, token_budget: int) -> Iterator[Batch]:
    """Every document once, as `documents_in_order` has them."""
    return (batch_of(corpus, documents) for documents in documents_in_order(corpus, token_budget))


def documents_in_order(corpus: Corpus, token_budget: int) -> Iterator[list[int]]:
    """Documents of like length together, at most `token_budget` tokens a batch; always the same batches."""
    examples: list[int] = []
    held = 0
    lengths = corpus.examples()
    for example in np.argsort(-lengths, kind="stable"):
        if examples and held + lengths[example] > token_budget:
            yield corpus.documents_of(examples)
            examples, held = [], 0
        examples.append(int(example))
        held += int(lengths[example])
    if examples:
        yield corpus.documents_of(examples)
