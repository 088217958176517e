"""The memory of a process besides its tensors, learnt from runs that have ended on this machine."""

from collections.abc import Sequence
from statistics import mean, median
from typing import Any, NamedTuple

from engine.plan import kept_shapes
from engine.plan.memory import CODE_BYTES

_SURE = 4 * 100.0**2
"""The prior of a shape's code has the weight of four runs whose numbers of shapes are a hundred from their mean."""


class Runtime(NamedTuple):
    """Bytes of libraries and interpreter, and of the code of each cached product."""

    base: float
    each: float

    @classmethod
    def learnt(cls, past: Sequence[dict[str, Any]]) -> "Runtime | None":
        """Fit the bytes to the service's records of past runs; None if there are none.

        The bytes of a shape's code are fitted by least squares; the base is the median of what is left.
        """
        if not past:
            return None
        shapes = [kept_shapes(round(run["effort"]["steps"].get("shapes", 0.0))) for run in past]
        held = [float(run["runtime_bytes"]) for run in past]
        middle, usual = mean(shapes), mean(held)
        spread = sum((count - middle) ** 2 for count in shapes)
        along = sum((count - middle) * (size - usual) for count, size in zip(shapes, held, strict=True))
        each = max(0.0, (along + _SURE * CODE_BYTES) / (spread + _SURE))
        return cls(median(size - each * count for count, size in zip(shapes, held, strict=True)), each)

    def bytes(self, shapes: int) -> int:
        return round(self.base + self.each * shapes)
