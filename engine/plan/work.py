"""The work of a run: the floating-point operations of its matmuls, and what else its time depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.weights import adapter_tensors

_FORWARD, _BACK, _LEARN = 2.0, 2.0, 2.0
"""Operations for each weight and token: forward, for the input's gradient, and for the weight's gradient."""


class Counts(NamedTuple):
    """Counts of what passes through a model. `attended` are query-key pairs, as squares whose causal half is computed."""

    batches: int = 0
    tokens: int = 0
    labels: int = 0
    attended: float = 0.0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(
            self.batches + other.batches,
            self.tokens + other.tokens,
            self.labels + other.labels,
            self.attended + other.attended,
        )

    def times(self, factor: float) -> "Counts":
        batches, tokens, labels = (round(value * factor) for value in self[:3])
        return Counts(batches, tokens, labels, self.attended * factor)


class Effort(NamedTuple):
    """The amounts that the time of a run depends on."""

    flops: float = 0.0
    """Operations, those of recomputation included."""
    passes: float = 0.0
    """Layers that batches go through, forward and backward; a forward pass alone counts as a third."""
    by_modules: float = 0.0
    """Those of the passes in training that go through transformers' own modules on a CPU."""
    updates: float = 0.0
    """Weights that the optimizer updates, summed over the steps."""
    written: float = 0.0
    """Bytes that are saved, or that an evaluation loads."""
    shapes: float = 0.0
    """Matrix products of new shapes in the steps of a training run (engine.plan.products)."""

    def plus(self, other: "Effort") -> "Effort":
        return Effort(*(one + another for one, another in zip(self, other, strict=True)))


class Efforts(NamedTuple):
    """The parts of a run: its steps, the evaluations between them, and the rest: start, saves and export."""

    steps: Effort
    scoring: Effort
    around: Effort
    samples: Effort = Effort()
    """Answers that are generated at the evaluations."""

    @property
    def whole(self) -> Effort:
        return reduce(Effort.plus, self)

    def plus(self, other: "Efforts") -> "Efforts":
        return Efforts(*(one.plus(another) for one, another in zip(self, other, strict=True)))

    def as_json(self) -> dict[str, dict[str, float]]:
        return {name: effort._asdict() for name, effort in self._asdict().items()}

    @classmethod
    def of(cls, fields: Mapping[str, Mapping[str, float]]) -> "Efforts":
        """Read what `as_json` returned."""
        return cls(**{name: Effort(**effort) for name, effort in fields.items()})


@dataclass(frozen=True)
class Work:
    """Operations of a model's matmuls for each token, label and pair; the head computes labels only.

    They are floats: a large run has more than an int64 can hold.
    """

    token_weights: float
    token_learning: float
    label_weights: float
    label_learning: float
    pair: float

    @classmethod
    def of(cls, shape: Shape, setting: Setting) -> "Work":
        adapters = shape.layers * sum(adapter_tensors(shape, setting))
        whole = shape.layers * sum(linear.size for linear in setting.beside(shape).linears)
        learning = float(adapters + whole if setting.adapter else shape.passed_weights)
        return cls(
            token_weights=float(shape.passed_weights) + adapters,
            token_learning=learning,
            label_weights=float(shape.embedding),
            label_learning=float(shape.embedding) if setting.head_learns(shape) else 0.0,
            pair=float(shape.query * shape.layers),
        )

    def training(self, counts: Counts) -> float:
        """Return the operations of forward and backward passes, without recomputation."""
        through = _FORWARD + _BACK
        return (
            counts.tokens * (through * self.token_weights + _LEARN * self.token_learning)
            + counts.labels * (through * self.label_weights + _LEARN * self.label_learning)
            + counts.attended * 3 * _FORWARD * self.pair
        )

    def again(self, counts: Counts, how: str) -> float:
        """Return the operations that activation checkpointing recomputes in the backward pass."""
        if how == "none":
            return 0.0
        weights = counts.tokens * self.token_weights if how == "full" else 0.0
        return _FORWARD * (weights + counts.attended * self.pair)

    def scoring(self, counts: Counts) -> float:
        """Return the operations of forward passes."""
        weights = counts.tokens * self.token_weights + counts.labels * self.label_weights
        return _FORWARD * (weights + counts.attended * self.pair)


def six_nd(parameters: int, tokens: int) -> float:
    """Return the usual estimate, six operations for each weight and token (Kaplan et al. 2020, arXiv:2001.08361)."""
    return 3 * two_nd(parameters, tokens)


def two_nd(parameters: int, tokens: int) -> float:
    """Return the same estimate for a forward pass."""
    return 2.0 * parameters * tokens


def parameters_of(shape: Shape) -> int:
    return shape.linear_weights + shape.other_weights


def passed_parameters_of(shape: Shape) -> int:
    """Return the weights that a token goes through, without experts not chosen for it: usual estimates count these."""
    return shape.passed_weights + shape.other_weights
