"""Stretches of long curves: kept as metrics are written, in the same transaction, and read in their place.

The smallest stretch is 32 steps, each larger one four of the next smaller. They are kept from the step on at which a
run has become long, so that the many short ones cost nothing.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Table, delete, func, insert, select
from sqlalchemy.orm import Session

from db.models import Metric, Stretch

KEPT_FROM_STEPS = 16_384
"""Runs that have come to fewer steps have no stretches."""
READ_FROM_STEPS = 131_072
"""Runs that have come to fewer steps are read step by step, though they may have stretches."""
_SMALLEST_STEPS = 32
_GROWTH = 4
_MOST_STRETCHES = 4_096
"""Read for one curve; of a run of more steps a quarter of them at least, where every step was told."""

_STRETCHES = cast("Table", Stretch.__table__)
_COLUMNS = [column for column in _STRETCHES.c if not column.primary_key]
_UNSYNCHRONIZED = {"synchronize_session": False}


class Point(NamedTuple):
    """A figure at a step; None is a figure that was not finite. `tokens` counts from the start of the run."""

    step: int
    time: float
    tokens: float | None
    value: float | None


class Summary(NamedTuple):
    """What the points of a stretch came to; None is a point that it does not have."""

    told: int
    gaps: int
    mean: float | None
    low: Point | None
    high: Point | None
    gap: Point | None

    def points(self) -> list[Point]:
        """Those that are kept, in order."""
        return sorted({point for point in (self.low, self.high, self.gap) if point}, key=lambda point: point.step)


def newest(s: Session, job_id: str, splits: Collection[str]) -> dict[str, int]:
    """The highest step so far of each split that has one."""
    highest = [
        select(func.max(Metric.step)).where(Metric.job_id == job_id, Metric.split == split).scalar_subquery()
        for split in splits
    ]
    found = s.execute(select(*highest)).one()
    return {split: step for split, step in zip(splits, found, strict=True) if step is not None}


def keep(s: Session, job_id: str, told: Iterable[tuple[str, int]], before: dict[str, int]) -> None:
    """Bring the stretches up to date with the steps just written, given as (split, step).

    `before` is what `newest` said before they were.
    """
    steps: dict[str, set[int]] = {}
    for split, step in told:
        steps.setdefault(split, set()).add(step)
    for split, fresh in steps.items():
        newest_step = max(*fresh, before.get(split, 0))
        if newest_step >= KEPT_FROM_STEPS:
            _keep(s, job_id, split, fresh, before.get(split, 0), newest_step)


def end_at(s: Session, job_id: str, step: int) -> None:
    """Drop those that a run which ended at this step has not filled."""
    beyond = delete(Stretch).where(Stretch.job_id == job_id, Stretch.start + Stretch.size > step)
    s.execute(beyond, execution_options=_UNSYNCHRONIZED)


def _keep(s: Session, job_id: str, split: str, fresh: set[int], before: int, newest_step: int) -> None:
    """Write, from the smallest size up, each stretch that is complete and was not yet, or of which a step was repeated."""
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
    """What the metrics of the smallest stretches come to, by name and start."""
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
    """(step, time, values) of the steps from `start` on to below `stop`."""
    query = select(Metric.step, Metric.created_at, Metric.values).where(
        Metric.job_id == job_id, Metric.split == split, Metric.step >= start
    )
    if stop is not None:
        query = query.where(Metric.step < stop)
    return s.execute(query.order_by(Metric.step))


def summary(points: Sequence[Point]) -> Summary:
    """Of points in the order of their steps, of which there is one at least."""
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
    """What the next smaller stretches come to, by name and the start of the larger one."""
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
    """Of stretches that follow each other."""
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
    """Never outside of what it is the mean of, so that a constant's is that constant."""
    if not weighted:
        return None
    count = sum(weight for _, weight in weighted)
    values = [value for value, _ in weighted]
    mean = math.fsum(value * (weight / count) for value, weight in weighted)
    return min(max(mean, min(values)), max(values))


def _names(s: Session, job_id: str, split: str) -> list[str]:
    """The figures that have stretches. One look into the index for each, where DISTINCT would read all of them."""
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


def _row(of: Summary) -> dict[str, Any]:
    row: dict[str, Any] = {"told": of.told, "gaps": of.gaps, "mean": of.mean}
    for name, point in (("low", of.low), ("high", of.high), ("gap", of.gap)):
        row |= {f"{name}_step": None, f"{name}_at": None, f"{name}_tokens": None}
        if point is not None:
            row |= {f"{name}_step": point.step, f"{name}_at": point.time, f"{name}_tokens": point.tokens}
    return row | {"low": of.low and of.low.value, "high": of.high and of.high.value}


def _summary(columns: Sequence[Any]) -> Summary:
    """From a row of `_COLUMNS`."""
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
    """A long curve, in order: its stretches, and each point that came after them as one."""

    parts: list[Summary]
    ends: tuple[Point, ...]
    """The first and the last point."""


def suffice(s: Session, job_id: str, split: str) -> bool:
    """Whether the run is so long that its curves are read by their stretches."""
    return newest(s, job_id, [split]).get(split, 0) >= READ_FROM_STEPS


def read(s: Session, job_id: str, split: str, name: str) -> Reading:
    """The curve of a figure by its stretches."""
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
    """The first (0) or the last (-1) point that lies in a stretch."""
    start = func.min(Stretch.start) if place == 0 else func.max(Stretch.start)
    found = s.scalars(select(start).where(*_of(job_id, split, [name], _SMALLEST_STEPS))).one()
    return None if found is None else _points(s, job_id, split, name, found, found + _SMALLEST_STEPS)[place]


def _points(s: Session, job_id: str, split: str, name: str, start: int, stop: int | None) -> list[Point]:
    rows = _metrics(s, job_id, split, start, stop)
    return [Point(step, time, values.get("tokens"), values[name]) for step, time, values in rows if name in values]
