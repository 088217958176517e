"""Estimates of a run's duration, fitted to runs that have ended on this machine.

The seconds of each part of a run (its steps, its evaluations, the samples generated at them, and the rest: start, saves
and export) are a sum over its amounts: operations, passes through layers, updates of weights, code generated for new
shapes, bytes written, and a constant. The factors belong to the machine and are shared by all training runs; adapters add
to each pass, and so do transformers' own modules. The factors are fitted to the parts of past runs, by the error relative
to the whole run, and are not negative. Where past runs do not determine a factor, its prior does, from the measured
matmul rate. Finally the estimate is corrected by how far similar runs were off the fit.
"""

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.plan import Effort, Efforts

Floats = NDArray[np.float64]

_UTILISATION = {"learning": 0.35, "scoring": 0.35}
_UTILISATION_OF_EVALUATIONS = {"loss": 0.35, "tokens": 0.35, "multiple_choice": 0.25, "generate": 0.02}
"""Prior shares of the matmul rate. Training runs and evaluations are fitted separately."""
_PASS_S = {"passes": 4e-4, "passes by modules": 2e-3, "lora passes": 1e-4, "qlora passes": 2e-4}
_ONCE_S = {"updates": 4e-9, "written": 2e-9, "shapes": 1e-3, "start": 4.0}
"""Prior seconds of a pass through a layer, what modules and adapters add, an update, a byte, a shape, a start."""
_PRIOR_WEIGHT = 0.03
"""The weight of a factor's prior against all past runs, relative to the seconds that the factor explains in them."""
_LEAST_PULL = 1e-6
"""The weight of the prior of a factor that no past run has."""
_FADING = 0.97
"""The weight of a run relative to the next newer one: machines change."""
_ALIKE = 0.5
"""Runs are similar if their operations per pass are within a factor of e to this power."""
_OTHERS = 0.3
"""The weight of a run with another method or other code paths that is similar otherwise."""
_FIT = 1.0
"""The weight of the fit in the correction, in runs that are similar."""
_FEWEST = 5
"""The number of past runs from which on the spread of the estimates is known."""
_UNSURE = (0.5, 2.0)
_SURE = 0.1
_TENTHS = (10, 90)


class Past(NamedTuple):
    """A run that has ended: the amounts of its parts, and the seconds that they took."""

    method: str
    efforts: Efforts
    seconds: dict[str, float]

    @property
    def whole_s(self) -> float:
        return sum(self.seconds.values())


class Estimate(NamedTuple):
    """An estimate in seconds, fitted to `runs` runs; 8 of 10 runs are expected between `low` and `high`."""

    expected: float
    low: float
    high: float
    runs: int

    def within(self, most_s: float) -> "Estimate":
        """Return the estimate for a run that is stopped after `most_s` seconds."""
        return self._replace(**{name: min(getattr(self, name), most_s) for name in ("expected", "low", "high")})


def past_runs(records: Sequence[dict[str, Any]], precision: str) -> list[Past]:
    """Read the runs in this precision, the newest first, from the service's records of runs on this kind of device."""
    return [
        Past(run["method"], Efforts.of(run["effort"]), _by_part(run["part_seconds"], run["seconds"]))
        for run in records
        if run["precision"] == precision
    ]


def _by_part(parts: dict[str, float], whole: float) -> dict[str, float]:
    return {**parts, "around": max(0.0, whole - sum(parts.values()))}


def estimate(efforts: Efforts, method: str, past: Sequence[Past], *, matmul_tflops: float) -> Estimate:
    """Estimate the seconds of a run of these efforts."""
    peak = matmul_tflops * 1e12
    past = [run for run in past if _evaluates(run.method) == _evaluates(method)]
    expected = _expected(efforts, method, past, peak)
    if len(past) < _FEWEST:
        low, high = _UNSURE
    else:
        low, high = _spread(past, peak)
    return Estimate(expected, low * expected, high * expected, len(past))


def _expected(efforts: Efforts, method: str, past: Sequence[Past], peak: float) -> float:
    """Return the seconds by the fit, corrected by how far similar runs were off it."""
    factors = _fitted(past, peak)
    weights = [_FADING**back * _likeness(efforts, method, run) for back, run in enumerate(past)]
    gaps = [log(run.whole_s / _by_fit(run.efforts, run.method, factors, peak)) for run in past]
    correction = sum(weight * gap for weight, gap in zip(weights, gaps, strict=True)) / (_FIT + sum(weights))
    return _by_fit(efforts, method, factors, peak) * exp(correction)


def _by_fit(efforts: Efforts, method: str, factors: Mapping[str, float], peak: float) -> float:
    return sum(
        amount * factors.get(name, _prior(name, peak))
        for part, effort in efforts._asdict().items()
        for name, amount in _features(part, method, effort).items()
    )


def _likeness(efforts: Efforts, method: str, run: Past) -> float:
    """Return the weight of a run for the correction: 1 for the same method, size of passes and code path."""
    apart = log(_size(efforts) / _size(run.efforts)) / _ALIKE
    same = method == run.method and (efforts.steps.by_modules > 0) == (run.efforts.steps.by_modules > 0)
    return exp(-apart * apart / 2) * (1.0 if same else _OTHERS)


def _size(efforts: Efforts) -> float:
    whole = efforts._replace(samples=Effort()).whole
    return max(whole.flops, 1.0) / max(whole.passes, 1.0)


def _features(part: str, method: str, effort: Effort) -> dict[str, float]:
    """Return the amounts that a part's seconds depend on, by the names of their factors."""
    found = {"updates": effort.updates, "written": effort.written, "shapes": effort.shapes}
    if _evaluates(method):
        found |= {method: effort.flops, f"{method} passes": effort.passes}
    elif part == "samples":
        found |= {"generate": effort.flops, "generate passes": effort.passes}
    else:
        found |= {"learning" if part == "steps" else "scoring": effort.flops, "passes": effort.passes}
    if part == "steps":
        found["passes by modules"] = effort.by_modules
        if (added := f"{method} passes") in _PASS_S:
            found[added] = effort.passes
    return found | {"start": 1.0} if part == "around" else found


def _evaluates(method: str) -> bool:
    return method in _UTILISATION_OF_EVALUATIONS


def _prior(name: str, peak: float) -> float:
    if name in _ONCE_S:
        return _ONCE_S[name]
    if "passes" in name:
        return _PASS_S.get(name, _PASS_S["passes"])
    return 1.0 / ((_UTILISATION | _UTILISATION_OF_EVALUATIONS)[name] * peak)


def _fitted(past: Sequence[Past], peak: float) -> dict[str, float]:
    """Fit the factors to the parts of past runs and, weakly, to the priors, by least squares."""
    parts = [
        (_FADING**back / run.whole_s, _features(part, run.method, effort), run.seconds.get(part, 0.0))
        for back, run in enumerate(past)
        for part, effort in run.efforts._asdict().items()
    ]
    if not parts:
        return {}
    names = sorted({name for _, features, _ in parts for name in features})
    prior = np.array([_prior(name, peak) for name in names])
    rows = np.array([[weight * features.get(name, 0.0) for name in names] for weight, features, _ in parts]) * prior
    target = [weight * seconds for weight, _, seconds in parts]
    pull = np.maximum(_PRIOR_WEIGHT * np.linalg.norm(rows, axis=0), _LEAST_PULL)
    fitted = _non_negative(np.concatenate([rows, np.diag(pull)]), np.concatenate([target, pull]))
    return dict(zip(names, (prior * fitted).tolist(), strict=True))


def _non_negative(rows: Floats, target: Floats) -> Floats:
    """Solve least squares with non-negative factors, one factor after the other until they converge."""
    gram, wanted = rows.T @ rows, rows.T @ target
    factors = np.ones(rows.shape[1])
    for _ in range(1000):
        before = factors.copy()
        for at in range(len(factors)):
            factors[at] = max(0.0, factors[at] + (wanted[at] - gram[at] @ factors) / gram[at, at])
        if np.abs(factors - before).max() < 1e-9:
            break
    return factors


def _spread(past: Sequence[Past], peak: float) -> tuple[float, float]:
    """Return the range of past runs' seconds relative to estimates from the other runs."""
    ratios = []
    for at, run in enumerate(past):
        others = [*past[:at], *past[at + 1 :]]
        ratios.append(run.whole_s / _expected(run.efforts, run.method, others, peak))
    low, high = np.percentile(ratios, _TENTHS)
    return min(1 - _SURE, float(low)), max(1 + _SURE, float(high))
