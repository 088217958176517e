"""The log of every row's loss at every step: sixteen bytes per row, in the order of steps; part of each checkpoint."""

import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

NAME = "rows.bin"
_RECORD = struct.Struct("<IIfI")
"""Step, line of the file, loss, labels with the file in the top byte: rows have up to 2^20 labels, mixtures 128 files."""
_FILE_BIT = 24


class RowLoss(NamedTuple):
    """The loss of a document at a step: `loss` is the mean over its `labels`; a pair counts as one label."""

    line: int
    loss: float
    labels: int
    file: int = 0
    """Its index in engine.jobs.training_files."""


class RowLog:
    """The log file of a training run; `kept` is the copy in the checkpoint that the run resumes from."""

    def __init__(self, path: Path, kept: Path | None) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        if kept is not None and kept.exists():
            shutil.copyfile(kept, path)

    def append(self, step: int, rows: Iterable[RowLoss]) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(_packed(step, row) for row in rows))

    def copy_to(self, path: Path) -> None:
        if self.path.exists():
            shutil.copyfile(self.path, path)


def last_step(file: BinaryIO) -> int | None:
    """Return the newest step in a log, or None if it is empty."""
    records = _records(file)
    return _step_at(file, records - 1) if records else None


def rows_of_step(file: BinaryIO, step: int) -> list[RowLoss]:
    """Return the rows of a step in the order of training; none if the log does not have the step."""
    low, high = _first_from(file, step), _first_from(file, step + 1)
    file.seek(low * _RECORD.size)
    return [_unpacked(*record) for record in _RECORD.iter_unpack(file.read((high - low) * _RECORD.size))]


def _packed(step: int, row: RowLoss) -> bytes:
    return _RECORD.pack(step, row.line, row.loss, row.labels | row.file << _FILE_BIT)


def _unpacked(_step: int, line: int, loss: float, labels_and_file: int) -> RowLoss:
    return RowLoss(line, loss, labels_and_file & (1 << _FILE_BIT) - 1, labels_and_file >> _FILE_BIT)


def _first_from(file: BinaryIO, step: int) -> int:
    """Return the first record of this step or a later one, by binary search: logs may be long."""
    low, high = 0, _records(file)
    while low < high:
        middle = (low + high) // 2
        if _step_at(file, middle) < step:
            low = middle + 1
        else:
            high = middle
    return low


def _records(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END) // _RECORD.size


def _step_at(file: BinaryIO, record: int) -> int:
    file.seek(record * _RECORD.size)
    return _RECORD.unpack(file.read(_RECORD.size))[0]
