"""Data files as rows: messages or texts, with the line each came from."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from engine.errors import DataError
from engine.rows import PURPOSES, Row, RowError, iter_rows, parse_row
from engine.rows.formats import format_of_row, misfit

_SPLIT_SHARE = 0.05
_SPLIT_FROM_ROWS = 20
"""Fewer rows than this are all trained on."""
_BLOCK_CHARACTERS = (512, 65_536)
_BLOCKS = 400
"""About this many blocks make a text, within the bounds above."""


class SourceRow(NamedTuple):
    """A row and its line. `follows` and `ends` speak of blocks of one running text only."""

    line: int
    row: Row
    follows: bool = False
    """It goes on where the row before it stopped."""
    ends: bool = True
    """The document ends with it."""


def read_source(path: Path, purpose: str) -> list[SourceRow]:
    """Every row of a file that the purpose takes; a .txt is one text, cut into blocks of lines.

    Raises:
        DataError: a row is of no known format, or not of the format of the first row.
    """
    rows = _blocks_of(path) if path.suffix == ".txt" else _rows_of(path, purpose)
    if not rows:
        raise DataError("empty_file", f"{path.name} has no rows", "Upload a file with at least one row.")
    return rows


def _rows_of(path: Path, purpose: str) -> list[SourceRow]:
    rows: list[SourceRow] = []
    takes, name, line = PURPOSES[purpose], None, 0
    try:
        for line, row in iter_rows(path):
            name = name or format_of_row(row, takes)
            rows.append(SourceRow(line, parse_row(row, name or _unknown(row, takes))))
    except RowError as error:
        # iter_rows names the line that it could not read; what parse_row says is of the row at hand.
        told = str(error) if str(error).startswith("line ") else f"line {line}: {error}"
        raise DataError(error.flaw.code, f"{path.name}, {told}", error.flaw.hint or "Correct the row.") from error
    return rows


def _unknown(row: dict[str, Any], takes: tuple[str, ...]) -> str:
    raise RowError(misfit(row, takes))


def _blocks_of(path: Path) -> list[SourceRow]:
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError("not_utf8", f"line {line} of {path.name} is not UTF-8", "Save the file as UTF-8.") from error
    if not text.strip():
        return []
    low, high = _BLOCK_CHARACTERS
    size = min(high, max(low, len(text) // _BLOCKS))
    blocks: list[SourceRow] = []
    start, line = 0, 1
    while start < len(text):
        newline = text.find("\n", start + size, start + 2 * size)
        end = min(len(text), start + size) if newline < 0 else newline + 1
        block = text[start:end]
        blocks.append(SourceRow(line, block, follows=start > 0, ends=end == len(text)))
        start, line = end, line + block.count("\n")
    return blocks


def split(rows: list[SourceRow], seed: int) -> tuple[list[SourceRow], list[SourceRow]]:
    """Training and validation rows: the 5% with the lowest keyed hash of their content, so equal rows stay together.

    A file of fewer than 20 rows, or one whose rows are nearly all equal, is not split.
    """
    if len(rows) < _SPLIT_FROM_ROWS:
        return rows, []
    key = seed.to_bytes(8, "big")
    hashes = [hashlib.blake2b(orjson.dumps(row.row), digest_size=8, key=key).digest() for row in rows]
    bar = sorted(hashes)[round(len(rows) * _SPLIT_SHARE) - 1]
    held_out = [h <= bar for h in hashes]
    if sum(held_out) > len(rows) // 2:
        return rows, []
    return _take(rows, [not h for h in held_out]), _take(rows, held_out)


def _take(rows: list[SourceRow], chosen: list[bool]) -> list[SourceRow]:
    """The chosen rows; a block whose predecessor is not among them starts anew."""
    return [
        row._replace(follows=row.follows and index > 0 and chosen[index - 1])
        for index, row in enumerate(rows)
        if chosen[index]
    ]


class Sources(NamedTuple):
    train: list[SourceRow]
    validation: list[SourceRow]
    by_split: bool = False
    """The validation rows are a share of one file, not a file that was given."""


def read_sources(train: Path, validation: Path | None, *, purpose: str, auto_split: bool, seed: int) -> Sources:
    """Training rows, and the validation rows of their own file or of a split."""
    rows = read_source(train, purpose)
    if validation is not None:
        return Sources(rows, read_source(validation, purpose))
    return Sources(*split(rows, seed), by_split=True) if auto_split else Sources(rows, [])
