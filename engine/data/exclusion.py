"""The rows of the training file that a job leaves out (exclude_rows)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.data.cut import LINES_TOLD, listed
from engine.data.lines import rows_on
from engine.data.source import RowFile
from engine.errors import DataError
from engine.journal import Journal


def without(file: RowFile, lines: Sequence[int], journal: Journal) -> RowFile:
    """Return the file without the rows that begin on these lines, and log them.

    Held-out rows stay held out: they are not trained on anyway, and are still scored.

    Raises:
        DataError: no row begins on one of the lines, or no row is left to train on.
    """
    if not lines:
        return file
    found = rows_on(file, set(lines), "exclude_rows")
    held_out = set(file.held_out.tolist())
    excluded = np.array(sorted(set(found) - held_out), np.int64)
    made = replace(file, excluded=excluded)
    if not made.training_row_count:
        message = f"exclude_rows leaves no row of {file.path.name} to train on"
        raise DataError("all_rows_excluded", message, "Exclude fewer rows.")
    _log([found[row] for row in excluded.tolist()], [found[row] for row in sorted(held_out & set(found))], journal)
    return made


def _log(excluded: list[int], held_out: list[int], journal: Journal) -> None:
    message = f"{len(excluded)} training rows are left out (lines {listed(excluded)})" if excluded else ""
    if held_out:
        kept = f"{len(held_out)} rows to exclude are held out and stay so (lines {listed(held_out)})"
        message = f"{message}; {kept}" if message else kept
    journal.log(
        "info",
        "rows_excluded",
        message,
        count=len(excluded),
        lines=excluded[:LINES_TOLD],
        held_out=held_out[:LINES_TOLD],
    )
