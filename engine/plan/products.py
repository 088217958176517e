"""Matrix products of new shapes: in 16 bits a CPU generates code for each and caches it (engine.shape_rounding).

Counted from the code of the modules, as `activations` are. The lengths of rows, labels and documents differ from batch to
batch, and each new length brings all the products that have it.
"""

from collections.abc import Iterable, Sequence

from engine import shape_rounding
from engine.plan.memory import chunk_rows
from engine.plan.setting import Setting
from engine.plan.shape import Linear, Shape
from engine.plan.work import Counts
from engine.plan.workload import BLOCK

_OF_A_BLOCK = 3
"""Scores, outputs, and gradients of values; the gradients of probabilities, queries and keys have the same shapes."""
_KEPT = 1024
"""How many products oneDNN caches the code of, the most recently used."""


class Variety:
    """The different lengths that batches had, rounded up to multiples of `step`; with a step of 1, none are recorded."""

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
        """Take a batch's documents: their lengths, how much of each is shared, and the first token with a used output."""
        step = self.step
        if step > 1:
            for length, begin, first in zip(lengths, shared, asked, strict=True):
                end = -(-length // step)
                self._spans.add((end, begin // step, first // step if first < length else end))

    def blocks(self) -> set[tuple[int, int]]:
        """Return (queries, keys) of the blocks of attention (engine.model.documents), in all layers but the last."""
        return {block for end, shared, _ in self._spans for block in self._blocks(shared, end)}

    def last_blocks(self) -> set[tuple[int, int]]:
        """Return those of the last layer, where outputs ahead of the first label's are not used."""
        return {block for end, _, asked in self._spans for block in self._blocks(asked, end)}

    def _blocks(self, begin: int, end: int) -> list[tuple[int, int]]:
        begins = range(begin * self.step, end * self.step, BLOCK)
        stops = [min(end * self.step, at + BLOCK) for at in begins]
        return [(stop - at, stop) for at, stop in zip(begins, stops, strict=True)]


def kept_shapes(shapes: int) -> int:
    """Return the number of products whose code is cached at once."""
    return min(shapes, _KEPT)


def new_shapes(shape: Shape, setting: Setting, variety: Variety) -> int:
    """Return how many different products a training run has."""
    if variety.step == 1:
        return 0
    if setting.by_hand(shape):  # behind its attention, the last layer computes labelled tokens only
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
    """Return the number of products of linear layers for one length: forward, backward and of weights that learn."""
    adapted = [linear for linear in setting.adapted(shape) if linear in linears]
    learning = [linear for linear in setting.beside(shape).linears if linear in linears]
    whole, down = _together(linears, setting, shape), _together(adapted, setting, shape)
    weights = {(inputs, sum(outputs)) for inputs, outputs in whole}
    low = {(inputs, setting.rank * len(outputs)) for inputs, outputs in down}
    up = {(setting.rank, linear.outputs) for linear in adapted}
    own = {(linear.inputs, linear.outputs) for linear in learning} if setting.adapter else weights
    return 2 * len(weights) + len(own) + 3 * (len(low) + len(up))


def _together(linears: Sequence[Linear], setting: Setting, shape: Shape) -> list[tuple[int, list[int]]]:
    """Return (inputs, outputs of each) of layers multiplied as one, by hand those of one input (`FusedLinear`)."""
    if not setting.by_hand(shape):
        return [(linear.inputs, [linear.outputs]) for linear in linears]
    sources = dict.fromkeys(linear.source for linear in linears)
    groups = [[linear for linear in linears if linear.source == source] for source in sources]
    return [(group[0].inputs, [linear.outputs for linear in group]) for group in groups]


def _parts(shape: Shape, variety: Variety) -> set[int]:
    """Return how many tokens of a batch an expert may get, about: up to twice its even part, as routes are not known."""
    step = variety.step
    most = (2 * rows * shape.chosen // shape.experts for rows in variety.rows)
    return {shape_rounding.rows(count, step) for end in most for count in range(step, end + step, step)}


def _chunks(shape: Shape, labels: set[int]) -> set[int]:
    """Return how many labels the head scores at once."""
    most = chunk_rows(shape.vocabulary)
    return {min(most, count - at) for count in labels for at in range(0, count, most)}
