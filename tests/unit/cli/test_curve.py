"""The curve in text."""

import pytest

from cli.jobs.curve import columns_of, labelled_plot, plot


def test_a_falling_series_falls() -> None:
    assert plot([4, 3, 2, 1], width=4, height=1) == ["█▆▃▁"]


def test_a_constant_series_is_a_flat_line() -> None:
    assert plot([2.0] * 9, width=9, height=2) == [" " * 9, "▁" * 9]


def test_many_points_share_columns_and_each_column_is_their_mean() -> None:
    assert columns_of([1, 3, 5, 7], 2) == [2, 6]


def test_every_point_counts_in_exactly_one_column() -> None:
    heights = columns_of(list(range(1000)), 72)
    assert len(heights) == 72
    assert heights == sorted(heights)


def test_no_points_make_no_plot() -> None:
    assert labelled_plot([]) == []


@pytest.mark.parametrize("height", [1, 3, 5])
def test_largest_and_smallest_are_named(height: int) -> None:
    rows = labelled_plot([2.5, 1.5], height=height)
    assert len(rows) == height
    assert "1.500" in rows[-1]
    assert height == 1 or "2.500" in rows[0]
