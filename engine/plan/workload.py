"""The input of one forward and backward pass."""

from dataclasses import dataclass, replace

from engine import shape_rounding
from engine.parts import Hyperparameters

BLOCK = 256
"""Query rows that attention on the CPU processes at once (engine.model.documents)."""
KEEP_UP_TO = 512
"""Documents up to this length keep their attention probabilities (engine.model.attention)."""


def rows_at_once(hyper: Hyperparameters, replicas: int) -> int:
    """Return the most rows in a micro-batch of one of `replicas` ranks, among which a step's rows are dealt out."""
    rows, accumulation = hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps
    assert rows != "auto", "the spec is resolved"
    assert accumulation != "auto", "the spec is resolved"
    passes = -(-accumulation // replicas)  # of each replica; all take equally many
    return -(-rows * accumulation // (passes * replicas))


@dataclass(frozen=True)
class Workload:
    """A micro-batch: `labels` of its `tokens` are scored, in documents of `document` tokens; `paired` ones one by one."""

    tokens: int
    labels: int
    document: int
    accumulation: int = 1
    paired: bool = False
    waiting: int = 0
    """Further micro-batches whose backward passes are still to come."""
    rows: int = 1
    """The number of packed rows that hold the tokens."""
    shapes: int = 0
    """The number of products whose code is cached (engine.plan.products)."""

    def part(self, ranks: int) -> "Workload":
        """Return the part of one of `ranks` ranks that divide each row's tokens."""
        return replace(self, tokens=-(-self.tokens // ranks), labels=-(-self.labels // ranks))

    def scores(self, step: int) -> int:
        """Return the attention probabilities kept per head for the backward pass; documents are padded to `step`."""
        if self.document > KEEP_UP_TO:
            return 0
        length = shape_rounding.up(self.document, step)
        ends = [min(length, begin + BLOCK) for begin in range(0, length, BLOCK)]
        rows = [end - begin for begin, end in zip(range(0, length, BLOCK), ends, strict=True)]
        each = sum(count * end for count, end in zip(rows, ends, strict=True))
        return each * self.tokens // self.document
