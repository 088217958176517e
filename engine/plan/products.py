"""Products of new shapes: in 16 bits a CPU makes machine code for each and keeps it for a while (engine.shape_rounding).

Counted from the code of the modules, as `activations` are. From batch to batch the lengths of rows, of labels and of
documents differ, and each new one brings all products that have it.
"""

from collections.abc import Iterable, Sequence

from engine import shape_rounding
from engine.plan.memory import chunk_rows
from engine.plan.setting import Setting
from engine.plan.shape import Linear, Shape
from engine.plan.work import Counts
from engine.plan.workload import BLOCK

_OF_A_BLOCK = 3
"""Scores, outputs, and the gradients of values; those of probabilities, queries and keys have the same shapes again."""
_KEPT = 1024
"""So many products oneDNN keeps code of, those that were asked for last."""


class Variety:
    """The different lengths that batches had, filled up to multiples of `step`; of a step of 1 nothing is kept."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.rows: set[int] = set()
        self.labels: set[int] = set()
        self._spans: set[tuple[int, int, int]] = set()

    def batch(self, counts: Counts) -> None:
        if self.step > 1:
            self.rows.add(shape_rounding.rows(counts.tokens, self.step))
            self.labels |= {shape_rounding.rows(counts.labels, self.step)} - {0}

    def documents(self, lengths: Iterable[int], shared: Iterable[int], asked: Iterable[int]) -> None:
        """Of a batch: how long they are, how much of that they share, and the first token whose output is wanted."""
        step = self.step
        if step > 1:
            for length, begin, first in zip(lengths, shared, asked, strict=True):
                end = -(-length // step)
                self._spans.add((end, begin // step, first // step if first < length else end))

    def blocks(self) -> set[tuple[int, int]]:
        """(Queries, keys) of what attention works on at once (engine.model.documents), in all layers but the last."""
        return {block for end, shared, _ in self._spans for block in self._blocks(shared, end)}

    def last_blocks(self) -> set[tuple[int, int]]:
        """The same where nobody wants the outputs ahead of the first label's."""
        return {block for end, _, asked in self._spans for block in self._blocks(asked, end)}

    def _blocks(self, begin: int, end: int) -> list[tuple[int, int]]:
        begins = range(begin * self.step, end * self.step, BLOCK)
        stops = [min(end * self.step, at + BLOCK) for at in begins]
        return [(stop - at, stop) for at, stop in zip(begins, stops, strict=True)]


def kept_shapes(shapes: int) -> int:
    """Of so many products those whose code is there at once."""
    return min(shapes, _KEPT)


def new_shapes(shape: Shape, setting: Setting, variety: Variety) -> int:
    """How many different products a training had."""
    if variety.step == 1:
        return 0
    if setting.by_hand(shape):  # the last layer goes on behind its attention with the labelled tokens alone
        alone = shape.layers == 1
        ahead = [linear for linear in shape.linears if linear.source == "norm"]
        behind = [linear for linear in shape.linears if linear.source != "norm"]
        lengths = variety.labels if alone else variety.labels | variety.rows
        blocks = variety.last_blocks() if alone else variety.last_blocks() | variety.blocks()
        linear = len(variety.rows) * _linear_products(shape, ahead, setting)
        linear += len(lengths) * _linear_products(shape, behind, setting)
    else:
        blocks = variety.blocks()
        plain = [linear for linear in shape.linears if linear.experts == 1]
        mixed = [linear for linear in shape.linears if linear.experts > 1]
        linear = len(variety.rows) * _linear_products(shape, plain, setting)
        linear += len(_parts(shape, variety)) * _linear_products(shape, mixed, setting)
    return (
        linear
        + len(_chunks(shape, variety.labels)) * (3 if setting.head_learns(shape) else 2)
        + len(blocks) * _OF_A_BLOCK
    )


def _linear_products(shape: Shape, linears: Sequence[Linear], setting: Setting) -> int:
    """Of linear layers over rows of one length: forward, back, and where a weight learns its gradient; the same size once."""
    adapted = [linear for linear in setting.adapted(shape) if linear in linears]
    learning = [linear for linear in setting.beside(shape).linears if linear in linears]
    whole, down = _together(linears, setting, shape), _together(adapted, setting, shape)
    weights = {(inputs, sum(outputs)) for inputs, outputs in whole}
    low = {(inputs, setting.rank * len(outputs)) for inputs, outputs in down}
    up = {(setting.rank, linear.outputs) for linear in adapted}
    own = {(linear.inputs, linear.outputs) for linear in learning} if setting.adapter else weights
    return 2 * len(weights) + len(own) + 3 * (len(low) + len(up))


def _together(linears: Sequence[Linear], setting: Setting, shape: Shape) -> list[tuple[int, list[int]]]:
    """(Inputs, outputs of each) of those that are multiplied as one: by hand all of one source (engine.model.fused_linear)."""
    if not setting.by_hand(shape):
        return [(linear.inputs, [linear.outputs]) for linear in linears]
    sources = dict.fromkeys(linear.source for linear in linears)
    fans = [[linear for linear in linears if linear.source == source] for source in sources]
    return [(fan[0].inputs, [linear.outputs for linear in fan]) for fan in fans]


def _parts(shape: Shape, variety: Variety) -> set[int]:
    """How many tokens an expert may get of a batch: about, as no plan knows the routes, up to twice its even part."""
    step = variety.step
    most = (2 * rows * shape.chosen // shape.experts for rows in variety.rows)
    return {shape_rounding.rows(count, step) for end in most for count in range(step, end + step, step)}


def _chunks(shape: Shape, labels: set[int]) -> set[int]:
    """How many labels the head scores at once."""
    most = chunk_rows(shape.vocabulary)
    return {min(most, count - at) for count in labels for at in range(0, count, most)}
