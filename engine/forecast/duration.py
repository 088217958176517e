"""How long a run takes: what it has to do times what that took in runs that have ended on this machine.

The seconds of a run are a sum: operations by the rate of its way of tuning, or of its task where it evaluates; passes
through layers, updates of weights, bytes written, and a start and an end. The factors are fitted to the runs that have ended, each by its
relative error, and never below zero; what they do not tell is taken from what is measured once, the matmul rate.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.plan import Effort

Floats = NDArray[np.float64]

_UTILISATION = (
    {"full": 0.35, "lora": 0.3, "qlora": 0.2},
    {"loss": 0.35, "tokens": 0.35, "multiple_choice": 0.25, "generate": 0.02},
)
"""Of the matmul rate, by method, as long as nothing better is known. What trains and what evaluates learn apart."""
_PASS_S, _UPDATE_S, _WRITTEN_S, _START_S = 4e-4, 4e-9, 2e-9, 4.0
"""The same for a pass through a layer, a weight's update, a byte, and all that a run does once."""
_PRIOR_WEIGHT = 0.05
_FADING = 0.97
"""What each run back counts less: machines change."""
_FEWEST = 5
"""Runs that tell how far estimates are off."""
_UNSURE = (0.5, 2.0)
_SURE = 0.1
_TENTHS = (10, 90)


class Past(NamedTuple):
    """A run that has ended: what it did, and the seconds it took."""

    method: str
    effort: Effort
    seconds: float


class Estimate(NamedTuple):
    """Seconds; 8 of 10 runs are expected between `low` and `high`. `runs` is how many it was fitted to."""

    expected: float
    low: float
    high: float
    runs: int


def past_runs(told: Sequence[dict[str, Any]], device: str, precision: str) -> list[Past]:
    """Those on this device in this precision, the newest first, of runs as the service tells of them."""
    return [
        Past(run["method"], Effort(**run["effort"]), run["seconds"])
        for run in told
        if run["device"] == device and run["precision"] == precision
    ]


def estimate(effort: Effort, method: str, past: Sequence[Past], *, matmul_tflops: float) -> Estimate:
    """The seconds of a run of this effort."""
    past = [run for run in past if run.method in _alike(method)]
    prior = _prior(method, matmul_tflops)
    wanted = _features(method, effort)
    expected = float(wanted @ _fitted(past, prior))
    if len(past) < _FEWEST:
        low, high = _UNSURE
    else:
        low, high = _spread(past, prior)
    return Estimate(expected, low * expected, high * expected, len(past))


def _features(method: str, effort: Effort) -> Floats:
    by_method = [effort.flops if method == name else 0.0 for name in _alike(method)]
    return np.array([*by_method, effort.passes, effort.updates, effort.written, 1.0])


def _alike(method: str) -> dict[str, float]:
    """The methods whose runs tell of this one."""
    return next(methods for methods in _UTILISATION if method in methods)


def _prior(method: str, matmul_tflops: float) -> Floats:
    rates = [1.0 / (share * matmul_tflops * 1e12) for share in _alike(method).values()]
    return np.array([*rates, _PASS_S, _UPDATE_S, _WRITTEN_S, _START_S])


def _fitted(past: Sequence[Past], prior: Floats) -> Floats:
    """Factors that the runs and, weakly, the prior agree with: least squares of relative errors."""
    weights = _FADING ** np.arange(len(past))
    runs = [_features(run.method, run.effort) * prior / run.seconds for run in past]
    rows = np.concatenate(
        [np.array(runs).reshape(-1, len(prior)) * weights[:, None], _PRIOR_WEIGHT * np.eye(len(prior))]
    )
    target = np.concatenate([weights, np.full(len(prior), _PRIOR_WEIGHT)])
    return prior * _non_negative(rows, target)


def _non_negative(rows: Floats, target: Floats) -> Floats:
    """Least squares without negative factors, one factor after the other until they stand still."""
    gram, wanted = rows.T @ rows, rows.T @ target
    factors = np.ones(rows.shape[1])
    for _ in range(1000):
        before = factors.copy()
        for at in range(len(factors)):
            factors[at] = max(0.0, factors[at] + (wanted[at] - gram[at] @ factors) / gram[at, at])
        if np.abs(factors - before).max() < 1e-9:
            break
    return factors


def _spread(past: Sequence[Past], prior: Floats) -> tuple[float, float]:
    """How runs came out against what the others had foretold of them."""
    ratios = []
    for at, run in enumerate(past):
        others = [*past[:at], *past[at + 1 :]]
        ratios.append(run.seconds / float(_features(run.method, run.effort) @ _fitted(others, prior)))
    low, high = np.percentile(ratios, _TENTHS)
    return min(1 - _SURE, float(low)), max(1 + _SURE, float(high))
