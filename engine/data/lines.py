"""Look-ups of rows by the lines on which they begin."""

from collections.abc import Collection

import numpy as np

from engine.data.cut import listed
from engine.data.source import Block, RowFile, SourceRow
from engine.errors import DataError


def rows_on(file: RowFile, lines: Collection[int], field: str) -> dict[int, int]:
    """Return {row number: line} of the rows that begin on these lines. Several pieces of a text may begin on one line.

    Raises:
        DataError: no row begins on one of the lines, which `field` of the spec names.
    """
    found = {
        block.row + index: line
        for block in blocks_near(file, lines)
        for index, line in enumerate(file.lines(block))
        if line in lines
    }
    require(lines, found.values(), field)
    return found


def rows_near(file: RowFile, lines: Collection[int]) -> list[SourceRow]:
    """Return the training rows that begin on these lines; of a running text, whole blocks, which are cut together."""
    rows = [row for block in blocks_near(file, lines) for row in file.training_rows(block)]
    return rows if file.running else [row for row in rows if row.line in lines]


def require(lines: Collection[int], known: Collection[int], field: str) -> None:
    """Raise a DataError unless all lines are among the known ones."""
    missing = sorted(set(lines) - set(known))
    if missing:
        raise DataError(
            "no_such_row",
            f"{field}: no row of the file begins on line {listed(missing)}",
            "Take the lines from the job's rows, or count from 1 and include empty lines.",
        )


def blocks_near(file: RowFile, lines: Collection[int]) -> list[Block]:
    """Return the blocks that may hold rows which begin on these lines."""
    wanted, starts = np.array(sorted(lines)), np.array([block.line for block in file.blocks])
    # Pieces of one line of a running text may lie in several blocks, from the one before the first that begins on it.
    first = np.maximum(np.searchsorted(starts, wanted, "left" if file.running else "right") - 1, 0)
    after = np.maximum(np.searchsorted(starts, wanted, "right"), 1)
    near = {block for low, high in zip(first, after, strict=True) for block in range(low, high)}
    return [file.blocks[number] for number in sorted(near)]
