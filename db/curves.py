"""Curves: one figure of a run over its steps, thinned so that what stands out stays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from db.models import Metric


class Point(NamedTuple):
    """A figure at a step; None is a figure that was not finite. `tokens` counts from the start of the run."""

    step: int
    time: float
    tokens: float | None
    value: float | None


class Curve(NamedTuple):
    """`points` of the `total` there are, with what `smooth` makes of them; `last_seq` is where a stream goes on."""

    points: list[Point]
    smoothed: list[float | None] | None
    total: int
    last_seq: int


def curve(s: Session, job_id: str, *, split: str, name: str, points: int, smoothing: float) -> Curve:
    """The figure's curve in at most about `points` points, first and last, extremes and what is not finite among them.

    Smoothing comes before thinning, so that it never depends on which points are kept.
    """
    value, tokens = Metric.values[name].as_float(), Metric.values["tokens"].as_float()
    unsaid = case((value.is_(None), Metric.values))  # only there is a look needed: was the figure told, as null?
    query = (
        select(Metric.step, Metric.created_at, tokens, value, Metric.seq, unsaid)
        .where(Metric.job_id == job_id, Metric.split == split)
        .order_by(Metric.step)
    )
    rows = [row for row in s.execute(query) if row[3] is not None or name in row[5]]
    values = [row[3] for row in rows]
    smoothed = smooth(values, smoothing) if smoothing else None
    kept = standing_out(values, points)
    return Curve(
        [Point(*rows[index][:4]) for index in kept],
        None if smoothed is None else [smoothed[index] for index in kept],
        len(rows),
        max((row[4] for row in rows), default=0),
    )


def standing_out(values: Sequence[float | None], most: int) -> list[int]:
    """Indices of what a picture of `most` points must not lose: of each stretch the lowest, the highest and a gap."""
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    stretches = max(1, most // 2)
    for number in range(stretches):
        start, stop = number * len(values) // stretches, (number + 1) * len(values) // stretches
        finite = [(value, index) for index, value in enumerate(values[start:stop], start) if value is not None]
        if finite:
            kept |= {min(finite)[1], max(finite)[1]}
        if len(finite) < stop - start:
            kept.add(next(index for index in range(start, stop) if values[index] is None))
    return sorted(kept)


def smooth(values: Sequence[float | None], beta: float) -> list[float | None]:
    """The mean of each value and all before it, an older one counting `beta` times the next.

    It never looks ahead, and a constant stays what it is: every new mean is the old one and a share of the difference.
    """
    mean, count = math.nan, 0
    means: list[float | None] = []
    for value in values:
        if value is None:
            means.append(None)
            continue
        count += 1
        mean = value if count == 1 else mean + (value - mean) * (1 - beta) / (1 - beta**count)
        means.append(mean)
    return means
