"""What a thinned and smoothed curve keeps of the one it is made from."""

import math
import random

import pytest

from db.curves import smooth, standing_out

NAN = math.nan


def test_a_short_curve_is_kept_whole() -> None:
    assert standing_out([3.0, NAN, 1.0], 3) == [0, 1, 2]


def test_a_spike_of_one_step_among_a_hundred_thousand_stays() -> None:
    values: list[float] = [1.0 + random.Random(7).random()] * 100_000
    values[61_803] = 900.0
    kept = standing_out(values, 1000)
    assert 61_803 in kept
    assert len(kept) <= 1002


def test_the_ends_and_a_figure_that_was_not_finite_stay() -> None:
    values: list[float] = [float(index % 7) for index in range(5000)]
    values[4321] = NAN
    kept = standing_out(values, 100)
    assert (kept[0], kept[-1]) == (0, 4999)
    assert 4321 in kept


@pytest.mark.parametrize("beta", [0.1, 0.6, 0.99, 0.999999])
def test_a_constant_stays_what_it_is_at_any_smoothing(beta: float) -> None:
    assert set(smooth([0.1] * 1000, beta)) == {0.1}


def test_a_smoothed_value_never_depends_on_later_ones() -> None:
    values: list[float] = [random.Random(3).random() for _ in range(300)]
    whole = smooth(values, 0.9)
    assert [smooth(values[:length], 0.9)[-1] for length in (1, 17, 299)] == [whole[0], whole[16], whole[298]]


def test_the_mean_is_the_weighted_mean_of_all_so_far_and_passes_over_gaps() -> None:
    told = smooth([4.0, NAN, 1.0, 7.0], 0.5)
    assert told[0] == 4.0
    assert math.isnan(told[1])
    assert told[2] == pytest.approx((4 * 0.5 + 1) / 1.5)
    assert told[3] == pytest.approx((4 * 0.25 + 1 * 0.5 + 7) / 1.75)
