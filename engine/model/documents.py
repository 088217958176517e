"""The documents of a flat row, and the blocks in which attention processes them.

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
"""Query rows processed at once: bounds the memory of long documents and skips most of the masked scores."""


class Block(NamedTuple):
    """Queries of a document that are processed at once, and the keys that they see, as (from, to) in the document.

    Only the outputs of the queries in `wanted` are used; the others fill the block.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    wanted: tuple[int, int]

    @property
    def before(self) -> int:
        """The number of keys ahead of the first query."""
        return self.queries[0] - self.keys[0]

    @property
    def there(self) -> slice:
        """The queries that are wanted, counted from the first of the block."""
        return slice(self.wanted[0] - self.queries[0], self.wanted[1] - self.queries[0])


class Document(NamedTuple):
    """The places of a document's own tokens in the flat row, and of the tokens of another that it begins with."""

    own: slice
    prefix: slice
    asked: int = 0
    """The first of its own tokens whose output is used."""

    @property
    def shared(self) -> int:
        return self.prefix.stop - self.prefix.start

    @property
    def length(self) -> int:
        return self.shared + self.own.stop - self.own.start

    def in_row(self, begin: int, end: int) -> slice:
        """Return the places of some of its own tokens in the row."""
        back = self.own.start - self.shared
        return slice(back + begin, back + end)

    def blocks(self, window: int | None, step: int) -> list[Block]:
        """Return the blocks. They end at multiples of `step`; no wanted query sees beyond the end of the document."""
        first = self.shared + self.asked
        end = shape_rounding.up(self.length, step) if first < self.length else 0
        blocks = []
        for begin in range(first // step * step, end, BLOCK):
            stop = min(end, begin + BLOCK)
            seen = 0 if window is None else max(0, begin - window + 1) // step * step
            blocks.append(Block((begin, stop), (seen, stop), (max(begin, first), min(stop, self.length))))
        return blocks

    def cut(self, states: Tensor, begin: int, end: int) -> Tensor:
        """Return the states [..., T, D] of the document from `begin` to `end`, with zeros behind its end.

        The tokens that follow in the row would have no weight, but 0 times a NaN is a NaN.
        """
        parts = [states[..., rows, :] for rows in self._parts(begin, end)]
        missing = max(0, end - self.length)
        found = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
        return functional.pad(found, (0, 0, 0, missing)) if missing else found

    def add(self, states: Tensor, begin: int, end: int, left: Tensor, right: Tensor) -> None:
        """Add a product to the states from `begin` to `end`; its rows behind the end of the document are dropped."""
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
        """Return the places in the row from `begin` to `end`, those in the prefix and the document's own."""
        own = self.in_row(max(begin, self.shared), min(end, self.length))
        if begin >= self.shared:
            return [own]
        return [slice(self.prefix.start + begin, self.prefix.start + min(end, self.shared)), own]


@lru_cache(maxsize=8)
def documents_of(
    segments: tuple[int, ...], prefixes: tuple[tuple[int, int], ...], asked: tuple[int, ...] = ()
) -> tuple[Document, ...]:
    """Return the documents; `asked` is the first of each one's own tokens whose output is used, all if left out."""
    starts = accumulate(segments, initial=0)
    nothing = ((0, 0),) * len(segments)
    spans = zip(starts, segments, prefixes or nothing, asked or (0,) * len(segments), strict=False)
    return tuple(
        Document(slice(start, start + length), slice(*prefix), first) for start, length, prefix, first in spans
    )
