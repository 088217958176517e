"""Curves: one figure of a run over its steps, thinned so that what stands out stays."""

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from db import stretches
from db.curve_cache import UNTOLD, Columns
from db.models import Job
from db.stretches import Point


class Curve(NamedTuple):
    """`points` of the `total` there are, with what `smooth` makes of them; `last_seq` is where a stream goes on."""

    points: list[Point]
    smoothed: list[float | None] | None
    total: int
    last_seq: int


def curve(columns: Columns, *, name: str, points: int, smoothing: float) -> Curve:
    """The figure's curve in at most about `points` points, first and last, extremes and what is not finite among them.

    Smoothing comes before thinning, so that it never depends on which points are kept.
    """
    values = columns.figures.get(name, array("d"))
    tokens = columns.figures.get("tokens")
    at: Sequence[int] = range(len(values))
    if UNTOLD in values:
        at = [index for index, value in enumerate(values) if value != UNTOLD]
        values = array("d", [values[index] for index in at])
    smoothed = smooth(values, smoothing) if smoothing else None
    kept = standing_out(values, points)
    return Curve(
        [
            Point(
                columns.steps[at[index]],
                columns.times[at[index]],
                None if tokens is None else _told(tokens[at[index]]),
                _told(values[index]),
            )
            for index in kept
        ],
        None if smoothed is None else [_told(smoothed[index]) for index in kept],
        len(values),
        columns.last_seq if values else 0,
    )


def long_curve(s: Session, job: Job, *, split: str, name: str, points: int, smoothing: float) -> Curve:
    """The same of a run of so many steps that it is read by its stretches.

    Smoothing takes what lies between the points that a stretch keeps by its mean. It never looks ahead here either.
    """
    reading = stretches.read(s, job.id, split, name)
    if not reading.parts:
        return Curve([], [] if smoothing else None, 0, 0)
    found: list[Point] = []
    means: list[float | None] = []
    mean, count = 0.0, 0
    outer = reading.parts[0], reading.parts[-1]
    for part in reading.parts:
        kept = {*part.points(), *(end for end, its in zip(reading.ends, outer, strict=True) if its is part)}
        for point in sorted(kept):
            found.append(point)
            means.append(None if point.value is None else _gone_on(mean, count, point.value, 1, smoothing))
        if part.mean is not None:
            mean = _gone_on(mean, count, part.mean, part.told - part.gaps, smoothing)
            count += part.told - part.gaps
    told = standing_out([math.nan if point.value is None else point.value for point in found], points)
    return Curve(
        [found[index] for index in told],
        [means[index] for index in told] if smoothing else None,
        sum(part.told for part in reading.parts),
        job.last_seq,
    )


def _gone_on(mean: float, count: int, value: float, times: int, beta: float) -> float:
    """What the mean of `count` values is after the same value so many times; of a constant it stays that, exactly."""
    share = (1 - beta**times) / (1 - beta ** (count + times)) if count else 1.0
    return mean + (value - mean) * share if count else value


def _told(value: float) -> float | None:
    return value if math.isfinite(value) else None


def standing_out(values: Sequence[float], most: int) -> list[int]:
    """Indices of what a picture of `most` points must not lose: of each stretch the lowest, the highest and a gap (NaN)."""
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    stretches = max(1, most // 2)
    for number in range(stretches):
        start, stop = number * len(values) // stretches, (number + 1) * len(values) // stretches
        stretch = values[start:stop]
        if math.isnan(sum(stretch)):
            kept |= _around_gap(stretch, start)
        else:
            kept |= {start + stretch.index(min(stretch)), start + stretch.index(max(stretch))}
    return sorted(kept)


def _around_gap(stretch: Sequence[float], start: int) -> set[int]:
    finite = [(value, index) for index, value in enumerate(stretch, start) if not math.isnan(value)]
    gap = next((index for index, value in enumerate(stretch, start) if math.isnan(value)), start)
    return {gap, min(finite)[1], max(finite)[1]} if finite else {gap}


def smooth(values: Sequence[float], beta: float) -> list[float]:
    """The mean of each value and all before it, an older one counting `beta` times the next; NaN stays NaN.

    It never looks ahead, and a constant stays what it is: every new mean is the old one and a share of the difference.
    """
    mean, left = 0.0, 1.0
    means: list[float] = []
    for value in values:
        if math.isnan(value):
            means.append(value)
            continue
        left *= beta
        mean += (value - mean) * ((1 - beta) / (1 - left))  # the first share is 1, exactly
        means.append(mean)
    return means
