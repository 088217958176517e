"""Stretches of long curves: summaries of metrics that are written in the metrics' transaction and read in their place.

The smallest stretch has 32 steps, each larger one four of the next smaller. They are written only once a run has become
long, so that the many short runs cost nothing.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Table, delete, func, insert, select
from sqlalchemy.orm import Session

from db.models import Metric, Stretch

KEPT_FROM_STEPS = 16_384
"""Runs of fewer steps have no stretches."""
READ_FROM_STEPS = 131_072
"""Runs of fewer steps are read step by step, even if they have stretches."""
_SMALLEST_STEPS = 32
_GROWTH = 4
_MOST_STRETCHES = 4_096
"""The most that are read for one curve; at least a quarter of them, if every step has a value."""

_STRETCHES = cast("Table", Stretch.__table__)
_COLUMNS = [column for column in _STRETCHES.c if not column.primary_key]
_UNSYNCHRONIZED = {"synchronize_session": False}


class Point(NamedTuple):
    """The value of a metric at a step, None if it is not finite. `tokens` counts from the start of the run."""

    step: int
    time: float
    tokens: float | None
    value: float | None


class Summary(NamedTuple):
    """A summary of the points of a stretch. A point that the stretch does not have is None."""

    told: int
    gaps: int
    mean: float | None
    low: Point | None
    high: Point | None
    gap: Point | None

    def points(self) -> list[Point]:
        """Return the points that are kept, in the order of their steps."""
        return sorted({point for point in (self.low, self.high, self.gap) if point}, key=lambda point: point.step)


def newest(s: Session, job_id: str, splits: Collection[str]) -> dict[str, int]:
    """Return the highest step so far of each split that has any."""
    highest = [
        select(func.max(Metric.step)).where(Metric.job_id == job_id, Metric.split == split).scalar_subquery()
        for split in splits
    ]
    found = s.execute(select(*highest)).one()
    return {split: step for split, step in zip(splits, found, strict=True) if step is not None}


def keep(s: Session, job_id: str, written: Iterable[tuple[str, int]], before: dict[str, int]) -> None:
    """Update the stretches after writing metrics of the steps in `written`, given as (split, step).

    `before` is the result of `newest` before the write.
    """
    steps: dict[str, set[int]] = {}
    for split, step in written:
        steps.setdefault(split, set()).add(step)
    for split, fresh in steps.items():
        newest_step = max(*fresh, before.get(split, 0))
        if newest_step >= KEPT_FROM_STEPS:
            _keep(s, job_id, split, fresh, before.get(split, 0), newest_step)


def end_at(s: Session, job_id: str, step: int) -> None:
    """Delete the stretches that are not complete if the run ended at this step."""
    beyond = delete(Stretch).where(Stretch.job_id == job_id, Stretch.start + Stretch.size > step)
    s.execute(beyond, execution_options=_UNSYNCHRONIZED)


def _keep(s: Session, job_id: str, split: str, fresh: set[int], before: int, newest_step: int) -> None:
    """Write, from the smallest size up, each stretch that has just become complete or of which a step was repeated."""
    known = before if before >= KEPT_FROM_STEPS else 0
    if known == 0:
        fresh = set(s.scalars(select(Metric.step).where(Metric.job_id == job_id, Metric.split == split)))
    size = _SMALLEST_STEPS
    touched = {step // size for step in fresh} | {known // size}
    while numbers := sorted(number for number in touched if number < newest_step // size):
        starts = [number * size for number in numbers]
        repeated = [start for start in starts if start // size < known // size]
        if repeated:
            names = _names(s, job_id, split)
            s.execute(
                delete(Stretch).where(*_of(job_id, split, names, size), Stretch.start.in_(repeated)),
                execution_options=_UNSYNCHRONIZED,
            )
        made = (
            _of_metrics(s, job_id, split, starts)
            if size == _SMALLEST_STEPS
            else _of_smaller(s, job_id, split, size, starts)
        )
        place = {"job_id": job_id, "split": split, "size": size}
        rows = [place | {"name": name, "start": start} | _row(summary) for (name, start), summary in made.items()]
        if rows:
            s.execute(insert(_STRETCHES), rows)
        size *= _GROWTH
        touched = {number // _GROWTH for number in numbers} | {known // size}


def _of_metrics(s: Session, job_id: str, split: str, starts: Sequence[int]) -> dict[tuple[str, int], Summary]:
    """Summarize the metrics of the smallest stretches, by name and start."""
    points: dict[tuple[str, int], list[Point]] = {}
    wanted = set(starts)
    for step, time, values in _metrics(s, job_id, split, starts[0], starts[-1] + _SMALLEST_STEPS):
        start = step - step % _SMALLEST_STEPS
        if start in wanted:
            tokens = values.get("tokens")
            for name, value in values.items():
                points.setdefault((name, start), []).append(Point(step, time, tokens, value))
    return {key: summary(each) for key, each in points.items()}


def _metrics(s: Session, job_id: str, split: str, start: int, stop: int | None) -> Iterable[Any]:
    """Return rows (step, time, values) of the steps from `start` to below `stop`."""
    query = select(Metric.step, Metric.created_at, Metric.values).where(
        Metric.job_id == job_id, Metric.split == split, Metric.step >= start
    )
    if stop is not None:
        query = query.where(Metric.step < stop)
    return s.execute(query.order_by(Metric.step))


def summary(points: Sequence[Point]) -> Summary:
    """Summarize one or more points, which are in the order of their steps."""
    finite = [point for point in points if point.value is not None]
    return Summary(
        len(points),
        len(points) - len(finite),
        _mean([(_value(point), 1) for point in finite]),
        min(finite, key=_value, default=None),
        max(finite, key=_value, default=None),
        next((point for point in points if point.value is None), None),
    )


def _of_smaller(
    s: Session, job_id: str, split: str, size: int, starts: Sequence[int]
) -> dict[tuple[str, int], Summary]:
    """Summarize the next smaller stretches, by name and the start of the larger one."""
    within = Stretch.start >= starts[0], Stretch.start < starts[-1] + size
    ours = _of(job_id, split, _names(s, job_id, split), size // _GROWTH)
    query = select(Stretch.name, Stretch.start, *_COLUMNS).where(*ours, *within)
    parts: dict[tuple[str, int], list[Summary]] = {}
    wanted = set(starts)
    for name, start, *columns in map(tuple, s.execute(query.order_by(Stretch.name, Stretch.start))):
        if start - start % size in wanted:
            parts.setdefault((name, start - start % size), []).append(_summary(columns))
    return {key: joined(each) for key, each in parts.items()}


def joined(parts: Sequence[Summary]) -> Summary:
    """Summarize stretches that follow each other."""
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    return Summary(
        sum(part.told for part in parts),
        sum(part.gaps for part in parts),
        _mean([(part.mean, part.told - part.gaps) for part in parts if part.mean is not None]),
        min(lows, key=_value, default=None),
        max(highs, key=_value, default=None),
        next((part.gap for part in parts if part.gap is not None), None),
    )


def _value(point: Point) -> float:
    assert point.value is not None, "a gap is neither low nor high"
    return point.value


def _mean(weighted: Sequence[tuple[float, int]]) -> float | None:
    """Return the mean, clamped to the range of the values, so that the mean of a constant is that constant."""
    if not weighted:
        return None
    count = sum(weight for _, weight in weighted)
    values = [value for value, _ in weighted]
    mean = math.fsum(value * (weight / count) for value, weight in weighted)
    return min(max(mean, min(values)), max(values))


def _names(s: Session, job_id: str, split: str) -> list[str]:
    """Return the metrics that have stretches, with one index lookup for each; DISTINCT would read all rows."""
    first = select(func.min(Stretch.name).label("name")).where(Stretch.job_id == job_id, Stretch.split == split)
    names = first.cte("names", recursive=True)
    following = (
        select(func.min(Stretch.name))
        .where(Stretch.job_id == job_id, Stretch.split == split, Stretch.name > names.c.name)
        .scalar_subquery()
    )
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    return [name for name in s.scalars(select(names.c.name)) if name is not None]


def _of(job_id: str, split: str, names: Collection[str], size: int) -> tuple[ColumnElement[bool], ...]:
    return Stretch.job_id == job_id, Stretch.split == split, Stretch.name.in_(names), Stretch.size == size


def _row(summary: Summary) -> dict[str, Any]:
    row: dict[str, Any] = {"told": summary.told, "gaps": summary.gaps, "mean": summary.mean}
    for name, point in (("low", summary.low), ("high", summary.high), ("gap", summary.gap)):
        row |= {f"{name}_step": None, f"{name}_at": None, f"{name}_tokens": None}
        if point is not None:
            row |= {f"{name}_step": point.step, f"{name}_at": point.time, f"{name}_tokens": point.tokens}
    return row | {"low": summary.low and summary.low.value, "high": summary.high and summary.high.value}


def _summary(columns: Sequence[Any]) -> Summary:
    """Build a summary from a row of `_COLUMNS`."""
    told, gaps, mean, low, low_step, low_at, low_tokens, high, high_step, high_at, high_tokens = columns[:11]
    gap_step, gap_at, gap_tokens = columns[11:]
    return Summary(
        told,
        gaps,
        mean,
        None if low_step is None else Point(low_step, low_at, low_tokens, low),
        None if high_step is None else Point(high_step, high_at, high_tokens, high),
        None if gap_step is None else Point(gap_step, gap_at, gap_tokens, None),
    )


class Reading(NamedTuple):
    """A long curve in order: its stretches, and then each later point as a stretch of its own."""

    parts: list[Summary]
    ends: tuple[Point, ...]
    """The first and the last point."""


def suffice(s: Session, job_id: str, split: str) -> bool:
    """Return whether the run is long enough for its curves to be read from stretches."""
    return newest(s, job_id, [split]).get(split, 0) >= READ_FROM_STEPS


def read(s: Session, job_id: str, split: str, name: str) -> Reading:
    """Read the curve of a metric from its stretches."""
    newest_step = newest(s, job_id, [split]).get(split, 0)
    size = _SMALLEST_STEPS
    while newest_step // size > _MOST_STRETCHES:
        size *= _GROWTH
    parts: list[Summary] = []
    done = 0
    while size >= _SMALLEST_STEPS:
        query = select(*_COLUMNS).where(*_of(job_id, split, [name], size), Stretch.start >= done)
        parts += [_summary(row) for row in s.execute(query.order_by(Stretch.start))]
        done = newest_step - newest_step % size
        size //= _GROWTH
    tail = _points(s, job_id, split, name, done, None)
    parts += [summary([point]) for point in tail]
    first, last = (_end(s, job_id, split, name, place) for place in (0, -1))
    known = [point for point in (first, last, *tail) if point is not None]
    return Reading(parts, (known[0], known[-1]) if known else ())


def _end(s: Session, job_id: str, split: str, name: str, place: int) -> Point | None:
    """Return the first (0) or the last (-1) point that lies in a stretch."""
    start = func.min(Stretch.start) if place == 0 else func.max(Stretch.start)
    found = s.scalars(select(start).where(*_of(job_id, split, [name], _SMALLEST_STEPS))).one()
    return None if found is None else _points(s, job_id, split, name, found, found + _SMALLEST_STEPS)[place]


def _points(s: Session, job_id: str, split: str, name: str, start: int, stop: int | None) -> list[Point]:
    rows = _metrics(s, job_id, split, start, stop)
    return [Point(step, time, values.get("tokens"), values[name]) for step, time, values in rows if name in values]
