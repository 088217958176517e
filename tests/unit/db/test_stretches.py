"""What the points of a stretch come to."""

import random

import pytest

from db.stretches import Point, Summary, joined, summary


def points(*values: float | None, start: int = 0) -> list[Point]:
    return [Point(start + at, 100.0 + at, None, value) for at, value in enumerate(values)]


def test_a_stretch_keeps_its_first_lowest_and_highest_point_and_its_first_gap() -> None:
    told = points(2.0, 1.0, None, 3.0, 1.0, None, 3.0)
    assert summary(told) == Summary(7, 2, 2.0, told[1], told[3], told[2])
    assert [point.step for point in summary(told).points()] == [1, 2, 3]


def test_a_stretch_of_gaps_has_neither_mean_nor_extremes() -> None:
    told = points(None, None)
    assert summary(told) == Summary(2, 2, None, None, None, told[0])
    assert joined([summary(told), summary(told)]) == Summary(4, 4, None, None, None, told[0])


def test_joined_stretches_are_what_their_points_are_together() -> None:
    draw = random.Random(5)
    told = points(*[draw.choice([None, draw.random()]) for _ in range(128)])
    whole = summary(told)
    parts = joined([summary(told[start : start + 32]) for start in range(0, 128, 32)])
    assert parts._replace(mean=None) == whole._replace(mean=None)
    assert parts.mean == pytest.approx(whole.mean)


def test_the_mean_of_a_constant_is_that_constant() -> None:
    part = summary(points(*[0.1] * 31))
    assert part.mean == joined([part, summary(points(*[0.1] * 32)), part]).mean == 0.1
