"""A file as a supply of documents: blocks in the order of the epoch, tokenized when their window comes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from engine.data.cache import BlockCache, at_line
from engine.data.corpus import Corpus, Ints
from engine.data.cut import Cut, Losses
from engine.data.source import Block, RowFile, SourceRow

WINDOW_BLOCKS = 32
"""8 MB of text: some two million tokens, shuffled and packed together."""


class Recipe(Protocol):
    """How a kind of job makes documents of rows."""

    max_length: int

    @property
    def key(self) -> str:
        """All that `encode` depends on besides the rows."""
        ...

    def encode(self, rows: list[SourceRow]) -> Corpus:
        """One document a row, of any length."""
        ...

    def cut(self, encoded: Corpus, follows: list[bool], ends: list[bool]) -> Cut:
        """Documents to train on; the flags of the rows are those of SourceRow."""
        ...

    def require(self, made: Cut, rows: int) -> None:
        """Raises NoTrainedToken when nothing is left of that many rows."""
        ...


class Seen(NamedTuple):
    """Rows: the tokens of each as it stands in the file, and what became of them."""

    lengths: Ints
    cut: Cut


def seen_in(rows: list[SourceRow], recipe: Recipe) -> Seen:
    """All of these rows, in memory.

    Raises:
        NoTrainedToken: nothing is left of them.
    """
    encoded = recipe.encode(rows)
    made = recipe.cut(encoded, [row.follows for row in rows], [row.ends for row in rows])
    recipe.require(made, len(rows))
    return Seen(np.diff(encoded.starts), made)


class FileSupply:
    """The training rows of a file. Which blocks are in a window is a function of (seed, epoch, window) alone."""

    together = 1

    def __init__(
        self,
        file: RowFile,
        recipe: Recipe,
        cache: BlockCache,
        *,
        seed: int,
        window_blocks: int = WINDOW_BLOCKS,
    ) -> None:
        self.file, self.recipe, self.cache, self.seed = file, recipe, cache, seed
        self.windows = -(-len(file.blocks) // window_blocks)
        self._key = f"{recipe.key} {file.format} {file.piece_bytes} "
        self._cut_blocks = lru_cache(maxsize=1)(self._make_cut)  # a file of one window is cut once for all epochs
        self.when_all_seen: Callable[[Losses], None] | None = None
        """Told once by an attempt, of the first epoch that it makes all windows of: rows lose the same in the others.

        One that begins in the midst of an epoch tells of the next, if it comes to the end of that, whatever was told before.
        """
        self._lost: dict[tuple[int, int], Losses] = {}

    def row_count(self) -> int:
        return self.file.training_row_count

    def window(self, epoch: int, index: int) -> Corpus:
        made = self.cut(epoch, index)
        self._note(epoch, index, made)
        return made.corpus

    def cut(self, epoch: int, index: int) -> Cut:
        """A window, and what happened to its rows."""
        return self._cut_blocks(self._blocks_of(epoch, index))

    def _note(self, epoch: int, index: int, made: Cut) -> None:
        tell = self.when_all_seen
        if tell is None:
            return
        self._lost = {key: lost for key, lost in self._lost.items() if key[0] == epoch}
        self._lost[epoch, index] = Losses.of(made)
        if len(self._lost) == self.windows:
            self.when_all_seen = None
            tell(Losses.join([*self._lost.values()]))

    def part(self, epoch: int, index: int) -> float:
        blocks = [self.file.blocks[number] for number in self._blocks_of(epoch, index)]
        return sum(block.end - block.start for block in blocks) / self.file.size_bytes

    def _blocks_of(self, epoch: int, index: int) -> tuple[int, ...]:
        blocks = len(self.file.blocks)
        order = np.random.default_rng((self.seed, epoch)).permutation(blocks)
        begin, end = (blocks * edge // self.windows for edge in (index, index + 1))
        return tuple(np.sort(order[begin:end]).tolist())

    def _make_cut(self, blocks: tuple[int, ...]) -> Cut:
        return Cut.join([self.cut_block(self.file.blocks[block]) for block in blocks])

    def cut_block(self, block: Block) -> Cut:
        return self._cut_rows(block, self._encoded(block))

    def seen(self, blocks: Sequence[Block]) -> Iterator[Seen]:
        """These blocks one after the other, and how long their rows are."""
        for block in blocks:
            encoded = self._encoded(block)
            lengths = np.diff(encoded.starts)[self.file.is_trained(block, len(encoded))]
            yield Seen(lengths, self._cut_rows(block, encoded))

    def _cut_rows(self, block: Block, encoded: Corpus) -> Cut:
        chosen = np.flatnonzero(self.file.is_trained(block, len(encoded)))
        running = self.file.running
        last = block.end == self.file.size_bytes
        follows = [running and at > 0 and chosen[at - 1] == row - 1 for at, row in enumerate(chosen)]
        ends = [not running or (last and row == len(encoded) - 1) for row in chosen]
        return self.recipe.cut(encoded.take(chosen), follows, ends)

    def _encoded(self, block: Block) -> Corpus:
        told = hashlib.blake2b(f"{self._key}{block.start == 0}".encode(), digest_size=20)
        told.update(self.file.content(block))
        key = told.hexdigest()
        found = self.cache.find(key)
        if found is None:
            found = at_line(self.recipe.encode(self.file.read(block)), -block.line)
            self.cache.keep(key, found)
        return at_line(found, block.line)
