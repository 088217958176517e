"""Confidence intervals of shares, of ratios, and of differences between two models on the same items."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054
"""95%, two-sided."""
_RESAMPLES = 2000
_AT_ONCE = 1 << 20
"""Draws held in memory."""

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


class Figure(NamedTuple):
    """A metric over N items that is a ratio of sums: right answers to answers, or losses to tokens."""

    values_N: Floats
    weights_N: Floats

    @classmethod
    def share(cls, hits: list[bool]) -> "Figure":
        return cls(np.array(hits, np.float64), np.ones(len(hits)))

    @property
    def mean(self) -> float:
        return float(self.values_N.sum() / self.weights_N.sum())

    def take(self, rows: NDArray[np.bool_]) -> "Figure":
        return Figure(self.values_N[rows], self.weights_N[rows])


def wilson(share: float, count: int) -> Interval:
    """Return the 95% interval of a share of `count` trials (Wilson 1927, eq. 4); always within 0 and 1."""
    square = _Z * _Z / count
    middle = share + square / 2
    reach = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return Interval(max(0.0, (middle - reach) / (1 + square)), min(1.0, (middle + reach) / (1 + square)))


def ratio(figure: Figure) -> Interval | None:
    """Return the 95% interval of a ratio of sums over a sample of items, by linearised variance (Cochran 1977, 2.11).

    None for a single item, which has no variance.
    """
    count, mean = len(figure.values_N), figure.mean
    if count < 2:
        return None
    off_N = figure.values_N - mean * figure.weights_N
    reach = _Z * math.sqrt(count / (count - 1) * float((off_N * off_N).sum())) / float(figure.weights_N.sum())
    return Interval(mean - reach, mean + reach)


def paired_difference(one: Figure, other: Figure, seed: int) -> Interval | None:
    """Return the 95% interval of `one` minus `other` over the same items, by a paired bootstrap (Efron 1979).

    Each resample draws items and computes both models' figures on them; the interval is a pair of percentiles.
    Resamples without any weight, such as those of rows without a byte, have no figure and are left out.
    None for a single item, whose resamples are all alike, and for items without any weight.
    """
    count = len(one.values_N)
    if count < 2 or not (one.weights_N.any() and other.weights_N.any()):
        return None
    rng = np.random.default_rng(seed)
    differences: list[Floats] = []
    for size in _split(_RESAMPLES, max(1, _AT_ONCE // count)):
        drawn = rng.integers(0, count, (size, count))
        drawn = drawn[(one.weights_N[drawn].sum(1) > 0) & (other.weights_N[drawn].sum(1) > 0)]
        means = [figure.values_N[drawn].sum(1) / figure.weights_N[drawn].sum(1) for figure in (one, other)]
        differences.append(means[0] - means[1])
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
    return Interval(float(low), float(high))


def _split(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]
