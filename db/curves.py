"""Curves: one metric of a run over its steps, thinned so that its extremes and gaps are kept."""

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
    """A selection of `total` points, their smoothed values, and the cursor `last_seq` from which a stream continues."""

    points: list[Point]
    smoothed: list[float | None] | None
    total: int
    last_seq: int


def curve(columns: Columns, *, name: str, points: int, smoothing: float) -> Curve:
    """Return a metric's curve in about `points` points, including the first, the last, the extremes and the gaps.

    Smoothing precedes thinning, so it does not depend on which points are kept.
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
                None if tokens is None else _finite(tokens[at[index]]),
                _finite(values[index]),
            )
            for index in kept
        ],
        None if smoothed is None else [_finite(smoothed[index]) for index in kept],
        len(values),
        columns.last_seq if values else 0,
    )


def long_curve(s: Session, job: Job, *, split: str, name: str, points: int, smoothing: float) -> Curve:
    """Return the curve like `curve`, for a run so long that it is read from its stretches.

    Smoothing uses the mean of a stretch for the points that the stretch does not keep. It never looks ahead either.
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
            means.append(None if point.value is None else _next_mean(mean, count, point.value, 1, smoothing))
        if part.mean is not None:
            mean = _next_mean(mean, count, part.mean, part.told - part.gaps, smoothing)
            count += part.told - part.gaps
    kept_indices = standing_out([math.nan if point.value is None else point.value for point in found], points)
    return Curve(
        [found[index] for index in kept_indices],
        [means[index] for index in kept_indices] if smoothing else None,
        sum(part.told for part in reading.parts),
        job.last_seq,
    )


def _next_mean(mean: float, count: int, value: float, times: int, beta: float) -> float:
    """Return the smoothed mean of `count` values after `times` more equal ones, which is exact for a constant."""
    share = (1 - beta**times) / (1 - beta ** (count + times)) if count else 1.0
    return mean + (value - mean) * share if count else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def standing_out(values: Sequence[float], most: int) -> list[int]:
    """Return the indices to keep in a plot of `most` points: of each part the lowest, the highest and a gap (NaN)."""
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
    """Return the exponential moving average, in which each value weighs `beta` times the next one; NaN stays NaN.

    It never looks ahead, and it leaves a constant exactly as it is: each mean is the last one plus a share of the
    difference.
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
