"""The documents of a flat row, and the blocks in which attention works them off.

Shapes: T tokens of the flat row, D head width.
"""

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine import shape_rounding

BLOCK = 256
"""Query rows worked on at once: bounds the memory of long documents and skips most of what causality hides."""


class Block(NamedTuple):
    """Queries of a document that are worked on at once, and the keys that they see: from and to, in the document.

    Of the queries only those of `wanted` are asked for; the others fill the block.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    wanted: tuple[int, int]

    @property
    def before(self) -> int:
        """How many keys are ahead of the first query."""
        return self.queries[0] - self.keys[0]

    @property
    def there(self) -> slice:
        """Which of its queries are wanted."""
        return slice(self.wanted[0] - self.queries[0], self.wanted[1] - self.queries[0])


class Document(NamedTuple):
    """Where a document's own tokens lie in the flat row, and those of another that it begins with."""

    own: slice
    prefix: slice
    asked: int = 0
    """The first of its own tokens whose output anybody wants."""

    @property
    def shared(self) -> int:
        return self.prefix.stop - self.prefix.start

    @property
    def length(self) -> int:
        return self.shared + self.own.stop - self.own.start

    def in_row(self, begin: int, end: int) -> slice:
        """Where these of its own tokens lie."""
        back = self.own.start - self.shared
        return slice(back + begin, back + end)

    def blocks(self, window: int | None, step: int) -> list[Block]:
        """Ends are multiples of `step`, and what lies behind the document's own end is seen by nobody who is wanted."""
        first = self.shared + self.asked
        end = shape_rounding.up(self.length, step) if first < self.length else 0
        blocks = []
        for begin in range(first // step * step, end, BLOCK):
            stop = min(end, begin + BLOCK)
            seen = 0 if window is None else max(0, begin - window + 1) // step * step
            blocks.append(Block((begin, stop), (seen, stop), (max(begin, first), min(stop, self.length))))
        return blocks

    def cut(self, states: Tensor, begin: int, end: int) -> Tensor:
        """Of states [..., T, D] those of the document from `begin` to `end`, and zeros behind its end.

        Not what comes next in the row: it weighs nothing, but 0 times a NaN is a NaN.
        """
        parts = [states[..., rows, :] for rows in self._parts(begin, end)]
        missing = max(0, end - self.length)
        found = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
        return functional.pad(found, (0, 0, 0, missing)) if missing else found

    def add(self, states: Tensor, begin: int, end: int, left: Tensor, right: Tensor) -> None:
        """Add a product to those of the states; what it comes to behind the document's end is nobody's."""
        parts = self._parts(begin, end)
        if len(parts) == 1 and end <= self.length:
            states[..., parts[0], :].baddbmm_(left, right)
            return
        product, at = torch.bmm(left, right), 0
        for rows in parts:
            count = rows.stop - rows.start
            states[..., rows, :] += product[..., at : at + count, :]
            at += count

    def _parts(self, begin: int, end: int) -> list[slice]:
        """Of the prefix and of its own, as far as they lie there."""
        own = self.in_row(max(begin, self.shared), min(end, self.length))
        if begin >= self.shared:
            return [own]
        return [slice(self.prefix.start + begin, self.prefix.start + min(end, self.shared)), own]


@lru_cache(maxsize=8)
def documents_of(
    segments: tuple[int, ...], prefixes: tuple[tuple[int, int], ...], asked: tuple[int, ...] = ()
) -> tuple[Document, ...]:
    """`asked`: the first of each document's own tokens whose output is wanted; all of them when left out."""
    starts = accumulate(segments, initial=0)
    nothing = ((0, 0),) * len(segments)
    spans = zip(starts, segments, prefixes or nothing, asked or (0,) * len(segments), strict=False)
    return tuple(
        Document(slice(start, start + length), slice(*prefix), first) for start, length, prefix, first in spans
    )
