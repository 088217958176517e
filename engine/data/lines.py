"""Rows by the lines on which they begin."""

from collections.abc import Collection

import numpy as np

from engine.data.cut import listed
from engine.data.source import Block, RowFile, SourceRow
from engine.errors import DataError


def rows_on(file: RowFile, lines: Collection[int], field: str) -> dict[int, int]:
    """The line of each row, by its number, that begins on one of these. A line of a text may hold several pieces.

    Raises:
        DataError: no row begins on one of them; `field` of the spec names it.
    """
    found = {
        block.row + index: line
        for block in _near(file, lines)
        for index, line in enumerate(file.lines(block))
        if line in lines
    }
    require(lines, found.values(), field)
    return found


def rows_near(file: RowFile, lines: Collection[int]) -> list[SourceRow]:
    """The training rows that begin on these lines; of a running text all of their blocks, which are cut together."""
    rows = [row for block in _near(file, lines) for row in file.training_rows(block)]
    return rows if file.running else [row for row in rows if row.line in lines]


def require(lines: Collection[int], known: Collection[int], field: str) -> None:
    missing = sorted(set(lines) - set(known))
    if missing:
        raise DataError(
            "no_such_row",
            f"{field}: no row of the file begins on line {listed(missing)}",
            "Take the lines from the job's rows, or count them from 1 with the empty ones.",
        )


def _near(file: RowFile, lines: Collection[int]) -> list[Block]:
    wanted, starts = np.array(sorted(lines)), np.array([block.line for block in file.blocks])
    # The block before may end on the line on which a block begins.
    first = np.maximum(np.searchsorted(starts, wanted, "left") - 1, 0)
    after = np.searchsorted(starts, wanted, "right")
    near = {block for low, high in zip(first, after, strict=True) for block in range(low, high)}
    return [file.blocks[number] for number in sorted(near)]
