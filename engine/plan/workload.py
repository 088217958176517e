"""What one forward and backward pass is given."""

from dataclasses import dataclass, replace

from engine import shape_rounding

BLOCK = 256
"""Query rows that attention on the CPU works on at once (engine.model.documents)."""
KEEP_UP_TO = 512
"""Documents up to this length keep their attention probabilities there."""


@dataclass(frozen=True)
class Workload:
    """`labels` of the `tokens` carry loss; documents are `document` tokens long, `paired` ones are scored one by one."""

    tokens: int
    labels: int
    document: int
    accumulation: int = 1
    paired: bool = False
    waiting: int = 0
    """Micro-batches besides whose passes back are still to come."""
    rows: int = 1
    """Packed rows that the tokens lie in."""
    shapes: int = 0
    """Products whose code the run holds (engine.plan.products)."""

    def part(self, ranks: int) -> "Workload":
        """A rank's, where so many take each row's tokens in parts."""
        return replace(self, tokens=-(-self.tokens // ranks), labels=-(-self.labels // ranks))

    def scores(self, step: int) -> int:
        """Attention probabilities per head that are kept between the passes; documents end at multiples of `step`."""
        if self.document > KEEP_UP_TO:
            return 0
        length = shape_rounding.up(self.document, step)
        ends = [min(length, begin + BLOCK) for begin in range(0, length, BLOCK)]
        rows = [end - begin for begin, end in zip(range(0, length, BLOCK), ends, strict=True)]
        each = sum(count * end for count, end in zip(rows, ends, strict=True))
        return each * self.tokens // self.document
