"""A cache of runs' metrics in memory, as columns by step.

Reading the rows of a long run takes fifty times as long as thinning its curve, and a web page requests the same run
repeatedly: for each metric, for each smoothing, and for new points.
"""

import math
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import stretches
from db.models import Job, Metric
from db.state import JobState

UNTOLD = math.inf
"""A value that a step does not have; NaN is one that was not finite. The database holds neither."""

_BATCH_ROWS = 2000
_MOST_CELLS = 8_000_000
_MOST_RECALLED = 16
_EMPTY_CELLS = 64
"""The size at which columns without rows are counted, since there may be many of them."""

T = TypeVar("T")


class Columns:
    """The metrics of one split of a run: `figures[name][index]` is the value at the step `steps[index]`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self.steps = array("q")
        self.times = array("d")
        self.figures: dict[str, array[float]] = {}
        self.last_seq = 0
        self._seen_seq = 0

    @property
    def cells(self) -> int:
        return _EMPTY_CELLS + len(self.steps) * (2 + len(self.figures))

    def bring_up(self, s: Session, job: Job, split: str) -> None:
        """Read the metrics that are new since the last call, if there are any."""
        if job.last_seq <= self._seen_seq:
            return
        try:
            if self.steps:
                self._add_news(s, job.id, split)
                if job.state == JobState.SUCCEEDED:  # steps beyond its end were deleted (records.end_at)
                    self._cut(1 + stretches.newest(s, job.id, [split]).get(split, 0))
            else:
                self._read_all(s, job.id, split)
        except BaseException:
            self._forget()  # some of the rows must not pass for all of them
            raise
        self._seen_seq = job.last_seq

    def _read_all(self, s: Session, job_id: str, split: str) -> None:
        query = select(Metric.step, Metric.created_at, Metric.values, Metric.seq)
        query = query.where(Metric.job_id == job_id, Metric.split == split).order_by(Metric.step)
        for step, time, values, seq in s.execute(query.execution_options(yield_per=_BATCH_ROWS)):
            self._append(step, time, values)
            self.last_seq = max(self.last_seq, seq)

    def _add_news(self, s: Session, job_id: str, split: str) -> None:
        # Without a condition on the split, the query uses the index on `seq` and does not read the whole run.
        query = select(Metric.step, Metric.created_at, Metric.values, Metric.seq, Metric.split)
        query = query.where(Metric.job_id == job_id, Metric.seq > self._seen_seq)
        news = {row.step: row for row in s.execute(query) if row.split == split}
        if not news:
            return
        rows = self._cut(min(news)) | {step: (row.created_at, row.values) for step, row in news.items()}
        for step in sorted(rows):
            self._append(step, *rows[step])
        self.last_seq = max(row.seq for row in news.values())

    def _append(self, step: int, time: float, values: Mapping[str, float | None]) -> None:
        before = len(self.steps)
        self.steps.append(step)
        self.times.append(time)
        for name, value in values.items():
            if name not in self.figures:
                self.figures[name] = array("d", [UNTOLD]) * before
            self.figures[name].append(math.nan if value is None else value)
        if len(values) < len(self.figures):
            for column in self.figures.values():
                if len(column) == before:
                    column.append(UNTOLD)

    def _cut(self, step: int) -> dict[int, tuple[float, dict[str, float | None]]]:
        """Remove and return the rows from a step on: after a resume these steps are reported again, one by one."""
        start = bisect_left(self.steps, step)
        rows = {
            self.steps[index]: (
                self.times[index],
                {
                    name: None if math.isnan(column[index]) else column[index]
                    for name, column in self.figures.items()
                    if column[index] != UNTOLD
                },
            )
            for index in range(start, len(self.steps))
        }
        for column in (self.steps, self.times, *self.figures.values()):
            del column[start:]
        return rows


class CurveCache:
    """The columns of the most recently requested runs, with at most `most_cells` values in total."""

    def __init__(self, most_cells: int = _MOST_CELLS) -> None:
        self._most_cells = most_cells
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Columns] = OrderedDict()
        self._recalled: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    @contextmanager
    def take(self, s: Session, job: Job, split: str) -> Iterator[Columns]:
        """Yield the run's columns as of the session's snapshot, locked against changes."""
        key = (job.id, split)
        with self._lock:
            columns = self._kept.setdefault(key, Columns())
            self._kept.move_to_end(key)
        with columns.lock:
            columns.bring_up(s, job, split)
            self._make_room()
            yield columns

    def recall(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return the cached result of `make` for this key, or call it if the key was not requested recently."""
        with self._lock:
            if key in self._recalled:
                self._recalled.move_to_end(key)
                return self._recalled[key]
        made = make()
        with self._lock:
            self._recalled[key] = made
            while len(self._recalled) > _MOST_RECALLED:
                self._recalled.popitem(last=False)
        return made

    def _make_room(self) -> None:
        with self._lock:
            cells = sum(columns.cells for columns in self._kept.values())
            while cells > self._most_cells and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                cells -= oldest.cells
