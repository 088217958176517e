"""What a run has to compute: floating-point operations of its matmuls, and what else its time depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from engine.plan.setting import Setting
from engine.plan.shape import Shape
from engine.plan.weights import adapter_tensors

_FORWARD, _BACK, _LEARN = 2.0, 2.0, 2.0
"""Operations for each weight and token: forward, for what flows back, and for the weight's own gradient."""


class Counts(NamedTuple):
    """What passes through a model. `attended` are query-key pairs, as squares whose causal half is computed."""

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
    """What the time of a run depends on."""

    flops: float = 0.0
    """Also of what is computed again."""
    passes: float = 0.0
    """Layers that a batch goes through, forward and back; forward alone is a third."""
    by_modules: float = 0.0
    """Those of a training's passes that go through transformers' own modules on a CPU, which some do not."""
    updates: float = 0.0
    """Weights that the optimizer moves, step by step."""
    written: float = 0.0
    """Bytes of all that is saved, or by an evaluation loaded."""
    shapes: float = 0.0
    """Products of new shapes (engine.plan.products), as far as a training's steps have them."""

    def plus(self, other: "Effort") -> "Effort":
        return Effort(*(one + another for one, another in zip(self, other, strict=True)))


class Efforts(NamedTuple):
    """The parts of a run: its steps, the evaluations between them, and what is around: start, saves and export."""

    steps: Effort
    scoring: Effort
    around: Effort
    samples: Effort = Effort()
    """Answers that are written at the evaluations."""

    @property
    def whole(self) -> Effort:
        return reduce(Effort.plus, self)

    def plus(self, other: "Efforts") -> "Efforts":
        return Efforts(*(one.plus(another) for one, another in zip(self, other, strict=True)))

    def told(self) -> dict[str, dict[str, float]]:
        """As JSON has it."""
        return {name: effort._asdict() for name, effort in self._asdict().items()}

    @classmethod
    def of(cls, told: Mapping[str, Mapping[str, float]]) -> "Efforts":
        return cls(**{name: Effort(**effort) for name, effort in told.items()})


@dataclass(frozen=True)
class Work:
    """Operations of a model's matmuls for each token, label and pair; a head is there for labels alone.

    In floats: of a large run there are more than an int64 holds.
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
            pair=float(shape.hidden * shape.layers),
        )

    def training(self, counts: Counts) -> float:
        """Forward and backward passes; nothing that is computed again counts."""
        through = _FORWARD + _BACK
        return (
            counts.tokens * (through * self.token_weights + _LEARN * self.token_learning)
            + counts.labels * (through * self.label_weights + _LEARN * self.label_learning)
            + counts.attended * 3 * _FORWARD * self.pair
        )

    def again(self, counts: Counts, how: str) -> float:
        """What activation checkpointing has the backward pass compute a second time."""
        if how == "none":
            return 0.0
        weights = counts.tokens * self.token_weights if how == "full" else 0.0
        return _FORWARD * (weights + counts.attended * self.pair)

    def scoring(self, counts: Counts) -> float:
        """Forward passes alone."""
        weights = counts.tokens * self.token_weights + counts.labels * self.label_weights
        return _FORWARD * (weights + counts.attended * self.pair)


def six_nd(parameters: int, tokens: int) -> float:
    """The usual estimate, six for each weight and token (Kaplan et al. 2020, arXiv:2001.08361)."""
    return 3 * two_nd(parameters, tokens)


def two_nd(parameters: int, tokens: int) -> float:
    """The same of a forward pass alone."""
    return 2.0 * parameters * tokens


def parameters_of(shape: Shape) -> int:
    return shape.linear_weights + shape.other_weights


def passed_parameters_of(shape: Shape) -> int:
    """Those that a token goes through, which the usual estimates count; all but experts that are not chosen for it."""
    return shape.passed_weights + shape.other_weights
