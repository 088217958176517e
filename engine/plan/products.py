"""Products of new shapes: in 16 bits a CPU makes machine code for each of them, and keeps it (engine.even).

Counted from the code of the modules, as `activations` are. From batch to batch the lengths of rows, of labels and of
documents differ, and each new one brings all products that have it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine import even
from engine.plan.memory import chunk_rows
from engine.plan.setting import Setting
from engine.plan.shape import Linear, Shape
from engine.plan.work import Counts
from engine.plan.workload import BLOCK

_OF_A_BLOCK = 3
"""Scores, outputs, and the gradients of values; those of probabilities, queries and keys have the same shapes again."""
_PLACES = 1 << 32


class Variety:
    """The different lengths that batches had, filled up to multiples of `step`; of a step of 1 nothing is kept."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.rows: set[int] = set()
        self.labels: set[int] = set()
        self._documents: set[int] = set()

    def batch(self, counts: Counts) -> None:
        if self.step > 1:
            self.rows.add(even.rows(counts.tokens, self.step))
            self.labels.add(even.rows(counts.labels, self.step))

    def documents(self, lengths: NDArray[np.int64], asked: NDArray[np.int64]) -> None:
        """Of a batch: how long they are with what they share, and the first token of each whose output is wanted."""
        if self.step > 1:
            ends, begins = -(-lengths // self.step), asked // self.step
            self._documents.update(np.unique(ends * _PLACES + begins).tolist())

    def blocks(self) -> set[tuple[int, int]]:
        """(Queries, keys) of what attention works on at once (engine.model.documents), in all layers but the last."""
        return {block for end, _ in self._ends_and_begins() for block in _blocks(0, end)}

    def last_blocks(self) -> set[tuple[int, int]]:
        """The same where nobody wants the outputs ahead of the first label's."""
        return {block for end, begin in self._ends_and_begins() for block in _blocks(begin, end)}

    def _ends_and_begins(self) -> list[tuple[int, int]]:
        return [(at // _PLACES * self.step, at % _PLACES * self.step) for at in self._documents]


def _blocks(begin: int, end: int) -> list[tuple[int, int]]:
    return [(min(end, at + BLOCK) - at, min(end, at + BLOCK)) for at in range(begin, end, BLOCK)]


def new_shapes(shape: Shape, setting: Setting, variety: Variety) -> int:
    """How many different products a training had."""
    if variety.step == 1:
        return 0
    by_hand = setting.by_hand(shape)
    whole, last = not by_hand or shape.layers > 1, by_hand  # the last layer goes on with the labelled tokens alone
    ahead = [linear for linear in shape.linears if linear.source == "norm"]
    behind = [linear for linear in shape.linears if linear.source != "norm"]
    lengths = (variety.rows if whole else set()) | (variety.labels if last else set())
    blocks = (variety.blocks() if whole else set()) | (variety.last_blocks() if last else set())
    return (
        len(variety.rows) * _linear_products(shape, ahead, setting)
        + len(lengths) * _linear_products(shape, behind, setting)
        + len(_chunks(shape, variety.labels)) * (3 if setting.head_learns(shape) else 2)
        + len(blocks) * _OF_A_BLOCK
    )


def _linear_products(shape: Shape, linears: Sequence[Linear], setting: Setting) -> int:
    """Of linear layers over rows of one length: forward, back, and where a weight learns its gradient; the same size once."""
    adapted = [linear for linear in setting.adapted(shape) if linear in linears]
    whole, down = _together(linears, setting, shape), _together(adapted, setting, shape)
    weights = {(inputs, sum(outputs)) for inputs, outputs in whole}
    low = {(inputs, setting.rank * len(outputs)) for inputs, outputs in down}
    up = {(setting.rank, linear.outputs) for linear in adapted}
    return len(weights) * (2 if setting.adapter else 3) + 3 * (len(low) + len(up))


def _together(linears: Sequence[Linear], setting: Setting, shape: Shape) -> list[tuple[int, list[int]]]:
    """(Inputs, outputs of each) of those that are multiplied as one: by hand all of one source (engine.model.fan)."""
    if not setting.by_hand(shape):
        return [(linear.inputs, [linear.outputs]) for linear in linears]
    sources = dict.fromkeys(linear.source for linear in linears)
    fans = [[linear for linear in linears if linear.source == source] for source in sources]
    return [(fan[0].inputs, [linear.outputs for linear in fan]) for fan in fans]


def _chunks(shape: Shape, labels: set[int]) -> set[int]:
    """How many labels the head scores at once."""
    most = chunk_rows(shape.vocabulary)
    return {min(most, count - at) for count in labels for at in range(0, count, most)}
