"""How long a run takes: what its parts have to do times what that took in runs that have ended on this machine.

A run's steps, its evaluations, the samples that are written at them, and what is around (start, saves and export) are
each a sum: operations by a rate, passes through layers, updates of weights, code made for new shapes, bytes written, and
a start. The factors are those of the machine, and whatever trains shares them; an adapter adds to each pass, and so do
transformers' own modules. They are fitted to the parts of runs that have ended, by the error relative to the whole run,
and never below zero; what those do not tell is taken from what is measured once, the matmul rate. What runs like this
one took beyond the fit is then taken as well.
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
"""Of the matmul rate, as long as nothing better is known. What trains and what evaluates learn apart."""
_PASS_S = {"passes": 4e-4, "passes by modules": 2e-3, "lora passes": 1e-4, "qlora passes": 2e-4}
_ONCE_S = {"updates": 4e-9, "written": 2e-9, "shapes": 1e-3, "start": 4.0}
"""The same for a pass through a layer, what modules and adapters add to it, a weight's update, a byte, a shape, and what a run does once."""
_PRIOR_WEIGHT = 0.03
"""Of what is known beforehand of a factor, beside all runs that tell of it: relative to the time that it would make of theirs."""
_LEAST_PULL = 1e-6
"""Of what no run tells of."""
_FADING = 0.97
"""What each run back counts less: machines change."""
_ALIKE = 0.5
"""Runs are alike whose operations a pass are within a factor of e to this power."""
_OTHERS = 0.3
"""What a run of another method or way counts, were it alike otherwise."""
_FIT = 1.0
"""So many runs that are alike speak as loud as the fit."""
_FEWEST = 5
"""Runs that tell how far estimates are off."""
_UNSURE = (0.5, 2.0)
_SURE = 0.1
_TENTHS = (10, 90)


class Past(NamedTuple):
    """A run that has ended: what its parts did, and the seconds that they took."""

    method: str
    efforts: Efforts
    seconds: dict[str, float]

    @property
    def whole_s(self) -> float:
        return sum(self.seconds.values())


class Estimate(NamedTuple):
    """Seconds; 8 of 10 runs are expected between `low` and `high`. `runs` is how many it was fitted to."""

    expected: float
    low: float
    high: float
    runs: int

    def within(self, most_s: float) -> "Estimate":
        """Of a run that is ended after that."""
        return self._replace(**{name: min(getattr(self, name), most_s) for name in ("expected", "low", "high")})


def past_runs(told: Sequence[dict[str, Any]], precision: str) -> list[Past]:
    """Those in this precision, the newest first, of runs on such a device as the service tells of them."""
    return [
        Past(run["method"], Efforts.of(run["effort"]), _by_part(run["part_seconds"], run["seconds"]))
        for run in told
        if run["precision"] == precision
    ]


def _by_part(parts: dict[str, float], whole: float) -> dict[str, float]:
    return {**parts, "around": max(0.0, whole - sum(parts.values()))}


def estimate(efforts: Efforts, method: str, past: Sequence[Past], *, matmul_tflops: float) -> Estimate:
    """The seconds of a run of these efforts."""
    peak = matmul_tflops * 1e12
    past = [run for run in past if _evaluates(run.method) == _evaluates(method)]
    expected = _expected(efforts, method, past, peak)
    if len(past) < _FEWEST:
        low, high = _UNSURE
    else:
        low, high = _spread(past, peak)
    return Estimate(expected, low * expected, high * expected, len(past))


def _expected(efforts: Efforts, method: str, past: Sequence[Past], peak: float) -> float:
    """By the fit, and by what runs like it took beyond their own fits."""
    factors = _fitted(past, peak)
    weights = [_FADING**back * _likeness(efforts, method, run) for back, run in enumerate(past)]
    beyond = [log(run.whole_s / _by_fit(run.efforts, run.method, factors, peak)) for run in past]
    correction = sum(weight * gap for weight, gap in zip(weights, beyond, strict=True)) / (_FIT + sum(weights))
    return _by_fit(efforts, method, factors, peak) * exp(correction)


def _by_fit(efforts: Efforts, method: str, factors: Mapping[str, float], peak: float) -> float:
    return sum(
        amount * factors.get(name, _prior(name, peak))
        for part, effort in efforts._asdict().items()
        for name, amount in _features(part, method, effort).items()
    )


def _likeness(efforts: Efforts, method: str, run: Past) -> float:
    """1 for a run of the same method whose passes are of the same size and go the same way."""
    apart = log(_size(efforts) / _size(run.efforts)) / _ALIKE
    same = method == run.method and (efforts.steps.by_modules > 0) == (run.efforts.steps.by_modules > 0)
    return exp(-apart * apart / 2) * (1.0 if same else _OTHERS)


def _size(efforts: Efforts) -> float:
    whole = efforts._replace(samples=Effort()).whole
    return max(whole.flops, 1.0) / max(whole.passes, 1.0)


def _features(part: str, method: str, effort: Effort) -> dict[str, float]:
    """What the seconds of a part are made of, by the name of its factor."""
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
    """Factors that the parts of runs and, weakly, the priors agree with: least squares."""
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


def _spread(past: Sequence[Past], peak: float) -> tuple[float, float]:
    """How runs came out against what the others had foretold of them."""
    ratios = []
    for at, run in enumerate(past):
        others = [*past[:at], *past[at + 1 :]]
        ratios.append(run.whole_s / _expected(run.efforts, run.method, others, peak))
    low, high = np.percentile(ratios, _TENTHS)
    return min(1 - _SURE, float(low)), max(1 + _SURE, float(high))
