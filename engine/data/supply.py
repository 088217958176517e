"""Supplies of documents: what a job draws from, and a file as one, tokenized block by block when a window needs it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from engine.data.cache import BlockCache, at_line
from engine.data.corpus import Corpus, Ints
from engine.data.cut import Cut, Losses
from engine.data.source import Block, RowFile, SourceRow
from engine.errors import DataError

WINDOW_BLOCKS = 32
"""8 MB of text: some two million tokens, shuffled and packed together."""


class Supply(Protocol):
    """Documents in windows: an epoch has each document in one of them, and always in the same one."""

    @property
    def together(self) -> int:
        """Number of neighbouring documents that stay in one batch."""
        ...

    @property
    def windows(self) -> int:
        """Number of windows of an epoch, all of about one size."""
        ...

    def window(self, epoch: int, index: int) -> Corpus: ...

    def part(self, epoch: int, index: int) -> float:
        """Return the fraction of an epoch's bytes that is in a window."""
        ...

    def row_count(self) -> int: ...


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
        """Return the documents to train on; `follows` and `ends` are those of the SourceRows."""
        ...

    def require(self, made: Cut, rows: int) -> None:
        """Raise NoTrainedToken when nothing is left of that many rows."""
        ...


class Seen(NamedTuple):
    """The length of each row in tokens, uncut, and the documents made of the rows."""

    lengths: Ints
    cut: Cut


def seen_in(rows: list[SourceRow], recipe: Recipe) -> Seen:
    """Make documents of rows in memory.

    Raises:
        NoTrainedToken: nothing is left of them.
    """
    seen = _seen(rows, recipe)
    recipe.require(seen.cut, len(rows))
    return seen


def cut_rows(rows: list[SourceRow], recipe: Recipe) -> Cut:
    """Make documents of rows in memory, of which nothing may be left."""
    return _seen(rows, recipe).cut


def _seen(rows: list[SourceRow], recipe: Recipe) -> Seen:
    encoded = recipe.encode(rows)
    made = recipe.cut(encoded, [row.follows for row in rows], [row.ends for row in rows])
    return Seen(np.diff(encoded.starts), made)


@contextmanager
def naming(file: str | None) -> Iterator[None]:
    """Name the file in every DataError that is raised within; None: the job has no other file."""
    try:
        yield
    except DataError as error:
        if file is not None:
            error.about(file)
        raise


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
        name: str | None = None,
    ) -> None:
        """`name` is what errors call the file; None where the job has no other."""
        self.name = name
        self.file, self.recipe, self.cache, self.seed = file, recipe, cache, seed
        self.windows = -(-len(file.blocks) // window_blocks)
        self._key = f"{recipe.key} {file.format} {file.piece_bytes} "
        self._cut_blocks = lru_cache(maxsize=1)(self._make_cut)  # a file of one window is cut once for all epochs
        self.when_all_seen: Callable[[Losses], None] | None = None
        """Called once, after all windows of one epoch were made: rows lose the same in every epoch.

        An attempt that starts in the middle of an epoch reports the next one, if it reaches its end.
        """
        self._lost: dict[tuple[int, int], Losses] = {}

    def row_count(self) -> int:
        return self.file.training_row_count

    def window(self, epoch: int, index: int) -> Corpus:
        made = self.cut(epoch, index)
        self._note(epoch, index, made)
        return made.corpus

    def cut(self, epoch: int, index: int) -> Cut:
        """Return a window's documents, and what its rows lost."""
        return self._cut_blocks(self._blocks_of(epoch, index))

    def _note(self, epoch: int, index: int, made: Cut) -> None:
        report = self.when_all_seen
        if report is None:
            return
        self._lost = {key: lost for key, lost in self._lost.items() if key[0] == epoch}
        self._lost[epoch, index] = Losses.of(made)
        if len(self._lost) == self.windows:
            self.when_all_seen = None
            report(Losses.join([*self._lost.values()]))

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
        """Yield the lengths and the documents of the training rows of each block."""
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
        """Return all rows of a block in tokens, from the cache where they are there."""
        digest = hashlib.blake2b(f"{self._key}{block.start == 0}".encode(), digest_size=20)
        digest.update(self.file.content(block))
        key = digest.hexdigest()
        encoded = self.cache.find(key)
        if encoded is None:
            with naming(self.name):
                encoded = at_line(self.recipe.encode(self.file.read(block)), -block.line)
            self.cache.keep(key, encoded)
        return at_line(encoded, block.line)
