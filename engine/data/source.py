"""Data files as numbered rows: one pass finds where they are and splits them; they are read when needed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataError
from engine.rows import PURPOSES, Row, RowError, parse_row, read_line
from engine.rows.formats import format_of_row, misfit

BLOCK_BYTES = 2**18
"""Rows are read and tokenized in blocks of about this size."""
_SPLIT_SHARE = 0.05
_SPLIT_FROM_ROWS = 20
"""Fewer rows than this are all trained on."""
_HELD_OUT_AT_MOST = 2000
"""Rows (ties aside): enough for a loss within about a percent, and each evaluation reads all of them."""
_LOWEST_AT_MOST = 32 * _HELD_OUT_AT_MOST
"""Hashes kept while rows are read, before those that are surely too high are removed."""
_PIECE_BYTES = (512, 65_536)
_PIECES = 400
"""A text is cut into about this many pieces, within the bounds above."""
_BOM = b"\xef\xbb\xbf"


class SourceRow(NamedTuple):
    """A row and its line. `follows` and `ends` have a meaning for pieces of a running text only."""

    line: int
    row: Row
    follows: bool = False
    """It continues the text of the row before it."""
    ends: bool = True
    """The document ends with it."""


class Block(NamedTuple):
    """Consecutive rows, from byte `start` to `end`; `row` and `line` are the numbers of the first one."""

    start: int
    end: int
    row: int
    line: int


class _Raw(NamedTuple):
    """The bytes of a row; `line` counts from 1."""

    offset: int
    line: int
    content: bytes


@dataclass(frozen=True)
class RowFile:
    """A file of rows of one format. It knows where the blocks are, and holds none of their content."""

    path: Path
    format: str
    piece_bytes: int
    """0: a row is a line; else a row is a piece of a running text, about this long."""
    size_bytes: int
    row_count: int
    blocks: tuple[Block, ...]
    held_out: NDArray[np.int64]
    """Numbers of the rows that are held out for validation, ascending."""
    excluded: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Numbers of the other rows that are not trained on (engine.data.exclusion), ascending."""

    @property
    def training_row_count(self) -> int:
        return self.row_count - len(self.held_out) - len(self.excluded)

    @property
    def running(self) -> bool:
        """Whether the rows are pieces of one text."""
        return self.piece_bytes > 0

    def content(self, block: Block) -> bytes:
        with self.path.open("rb") as file:
            file.seek(block.start)
            return file.read(block.end - block.start)

    def read(self, block: Block) -> list[SourceRow]:
        """Return every row of a block.

        Raises:
            DataError: a row is not of the format of the first row.
        """
        with self.path.open("rb") as file:
            return [self._row(raw) for raw in _raw_rows(file, block, self.piece_bytes)]

    def lines(self, block: Block) -> list[int]:
        """Return the line on which each row of a block begins."""
        with self.path.open("rb") as file:
            return [raw.line for raw in _raw_rows(file, block, self.piece_bytes)]

    def is_trained(self, block: Block, rows: int) -> NDArray[np.bool_]:
        """Return a mask of the first `rows` rows of a block: those neither held out nor excluded."""
        numbers = block.row + np.arange(rows)
        return ~np.isin(numbers, self.held_out) & ~np.isin(numbers, self.excluded)

    def training_rows(self, block: Block) -> list[SourceRow]:
        rows = self.read(block)
        return _take(rows, self.is_trained(block, len(rows)))

    def held_out_rows(self) -> list[SourceRow]:
        starts = np.array([block.row for block in self.blocks])
        held = np.unique(np.searchsorted(starts, self.held_out, side="right") - 1)
        return [row for index in held for row in self.held_out_rows_of(self.blocks[index])]

    def held_out_rows_of(self, block: Block) -> list[SourceRow]:
        rows = self.read(block)
        return _take(rows, np.isin(block.row + np.arange(len(rows)), self.held_out))

    def _row(self, raw: _Raw) -> SourceRow:
        if self.running:
            end = raw.offset + len(raw.content)
            return SourceRow(raw.line, self._text(raw), follows=raw.offset > 0, ends=end == self.size_bytes)
        try:
            return SourceRow(raw.line, parse_row(read_line(raw.content), self.format))
        except RowError as error:
            raise _bad_row(self.path, raw.line, error) from error

    def _text(self, raw: _Raw) -> str:
        content = raw.content if raw.offset else raw.content.removeprefix(_BOM)
        try:
            return content.decode().replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = raw.line + content[: error.start].count(b"\n")
            message = f"line {line} of {self.path.name} is not UTF-8"
            raise DataError("not_utf8", message, "Save the file as UTF-8.") from error


def _bad_row(path: Path, line: int, error: RowError) -> DataError:
    return DataError(error.flaw.code, f"{path.name}, line {line}: {error}", error.flaw.hint or "Correct the row.")


def _take(rows: list[SourceRow], chosen: NDArray[np.bool_]) -> list[SourceRow]:
    """Return the chosen rows; a piece without its predecessor begins a document."""
    return [
        row._replace(follows=bool(row.follows and index > 0 and chosen[index - 1]))
        for index, row in enumerate(rows)
        if chosen[index]
    ]


def scan(path: Path, purpose: str, *, split_seed: int | None) -> RowFile:
    """Find the blocks of a file and the rows to hold out, in one pass; a .txt is one text, cut into pieces of lines.

    The 5% of the rows with the lowest keyed hash of their content are held out, 2,000 at most; equal rows stay
    together. Nothing is held out of a file of fewer than 20 rows, of one whose rows are nearly all equal, or without
    a `split_seed`.

    Raises:
        DataError: the file has no rows, or the first one is of no format that the purpose takes.
    """
    size_bytes = path.stat().st_size
    low, high = _PIECE_BYTES
    piece_bytes = min(high, max(low, size_bytes // _PIECES)) if path.suffix == ".txt" else 0
    whole = Block(0, size_bytes, 0, 1)
    split = None if split_seed is None else _Split(split_seed)
    blocks: list[Block] = []
    name, count, blank = "text", 0, True
    with path.open("rb") as file:
        for raw in _raw_rows(file, whole, piece_bytes):
            if not count and not piece_bytes:
                name = _format_of(path, raw, purpose)
            if not blocks or raw.offset - blocks[-1].start >= BLOCK_BYTES:
                blocks.append(Block(raw.offset, raw.offset, count, raw.line))
            if split is not None:
                split.see(count, raw.content)
            blank = blank and not raw.content.strip()
            count += 1
    if blank:
        raise DataError("empty_file", f"{path.name} has no rows", "Upload a file with at least one row.")
    ends = [block.start for block in blocks[1:]] + [size_bytes]
    held_out = np.empty(0, np.int64) if split is None else split.held_out()
    closed = tuple(block._replace(end=end) for block, end in zip(blocks, ends, strict=True))
    return RowFile(path, name, piece_bytes, size_bytes, count, closed, held_out)


def _format_of(path: Path, raw: _Raw, purpose: str) -> str:
    takes = PURPOSES[purpose]
    try:
        row = read_line(raw.content)
        return format_of_row(row, takes) or _unknown(row, takes)
    except RowError as error:
        raise _bad_row(path, raw.line, error) from error


def _unknown(row: dict[str, Any], takes: tuple[str, ...]) -> str:
    raise RowError(misfit(row, takes))


def _raw_rows(file: BinaryIO, block: Block, piece_bytes: int) -> Iterator[_Raw]:
    """Yield the rows of a block that is the whole file, or that a scan of the whole file found."""
    file.seek(block.start)
    return _pieces(file, block, piece_bytes) if piece_bytes else _lines(file, block)


def _lines(file: BinaryIO, block: Block) -> Iterator[_Raw]:
    """Yield the lines that are not blank, without the byte order mark of the first one."""
    offset, line = block.start, block.line
    while offset < block.end:
        content = file.readline()
        stripped = (content if offset else content.removeprefix(_BOM)).strip()
        if stripped:
            yield _Raw(offset, line, stripped)
        offset, line = offset + len(content), line + 1


def _pieces(file: BinaryIO, block: Block, size_bytes: int) -> Iterator[_Raw]:
    """Yield pieces of whole lines, just over `size_bytes`; a line longer than twice that is cut between characters."""
    offset, line, piece = block.start, block.line, b""
    while offset < block.end:
        more = file.readline(2 * size_bytes - len(piece))
        piece += more
        whole = not more or (piece.endswith(b"\n") and len(piece) > size_bytes)
        if whole or len(piece) == 2 * size_bytes:
            cut = len(piece) if whole else _character_start(piece)
            yield _Raw(offset, line, piece[:cut])
            offset, line, piece = offset + cut, line + piece.count(b"\n", 0, cut), piece[cut:]


def _character_start(piece: bytes) -> int:
    """Return where the last character of the piece begins: UTF-8 has three continuation bytes at most."""
    last = range(len(piece) - 1, max(0, len(piece) - 4) - 1, -1)
    return next((at for at in last if piece[at] & 0xC0 != 0x80), len(piece))


class _Split:
    """The rows with the lowest keyed hashes so far: `_HELD_OUT_AT_MOST` of them, and their equals."""

    def __init__(self, seed: int) -> None:
        self._salt = seed.to_bytes(8, "big")
        self._bar = 1 << 63
        self._rows = 0
        self._lowest: list[tuple[int, int]] = []
        self._most = _LOWEST_AT_MOST

    def see(self, row: int, content: bytes) -> None:
        digest = hashlib.blake2b(content, digest_size=8, salt=self._salt).digest()
        hashed = int.from_bytes(digest, "big") >> 1
        self._rows += 1
        if hashed <= self._bar:
            self._lowest.append((hashed, row))
            if len(self._lowest) >= self._most:
                self._lower(_HELD_OUT_AT_MOST)
                # Equal rows may leave nothing to remove: twice as many must come before all are looked at again.
                self._most = max(_LOWEST_AT_MOST, 2 * len(self._lowest))

    def _lower(self, rows: int) -> None:
        """Lower the bar to the hash below which there are `rows` rows, and drop those above it."""
        hashes = np.array([hashed for hashed, _ in self._lowest])
        bar = int(np.partition(hashes, rows - 1)[rows - 1])
        if bar < self._bar:
            self._bar = bar
            self._lowest = [seen for seen in self._lowest if seen[0] <= bar]

    def held_out(self) -> NDArray[np.int64]:
        if self._rows < _SPLIT_FROM_ROWS:
            return np.empty(0, np.int64)
        self._lower(min(_HELD_OUT_AT_MOST, round(self._rows * _SPLIT_SHARE)))
        rows = np.array([row for _, row in self._lowest], np.int64)
        return rows if len(rows) <= self._rows // 2 else np.empty(0, np.int64)


def read_source(path: Path, purpose: str) -> list[SourceRow]:
    """Return every row of a file.

    Raises:
        DataError: the first row is of no format that the purpose takes, or another is not of its format.
    """
    file = scan(path, purpose, split_seed=None)
    return [row for block in file.blocks for row in file.read(block)]


class Sources(NamedTuple):
    train: list[SourceRow]
    validation: list[SourceRow]
    by_split: bool = False
    """The validation rows are split off the training file, not those of a validation file."""


def read_sources(file: RowFile, validation: Path | None, purpose: str) -> Sources:
    """Read the training rows, and the rows of the validation file or of the split, into memory."""
    rows = [row for block in file.blocks for row in file.training_rows(block)]
    if validation is not None:
        return Sources(rows, read_source(validation, purpose))
    return Sources(rows, file.held_out_rows(), by_split=True)
