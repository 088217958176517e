"""Learning-rate schedules as pure functions of the step, without state to save or restore."""

import math

from engine.parts import Hyperparameters


def steps_of(value: float, total_steps: int) -> int:
    """Return a number of steps: values below 1 are a share of all steps, at least one step; 0 stays 0."""
    if value >= 1:
        return int(value)
    return max(1, round(value * total_steps)) if value > 0 else 0


def times_due(every: float | str, total_steps: int, *, after: int = 0) -> int:
    """Return how often something is due after step `after`, if it is due every `every` steps and at the end."""
    assert not isinstance(every, str), "the spec is resolved"
    steps = max(1, steps_of(every, total_steps))
    return -(-total_steps // steps) - after // steps


def learning_rate(hyperparameters: Hyperparameters, step: int, total_steps: int) -> float:
    """Return the rate of step `step`, counted from 0. Warmup rises linearly; decays end after the last step."""
    peak = hyperparameters.learning_rate
    assert peak != "auto", "the spec is resolved"
    warmup = _warmup(hyperparameters, total_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total_steps - warmup)
    match hyperparameters.lr_scheduler_type:
        case "constant":
            return peak
        case "linear":
            left = 1.0 - done
        case "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * done))
        case "wsd":  # warmup-stable-decay: Hu et al. 2024, arXiv:2404.06395, who decay in the last 10-20% of the steps
            left = min(1.0, (total_steps - step) / (total_steps - decay_start(hyperparameters, total_steps)))
    floor = hyperparameters.min_lr_rate
    return peak * (floor + (1.0 - floor) * left)


def decay_start(hyperparameters: Hyperparameters, total_steps: int) -> int:
    """Return the last step of wsd at its peak, after which it decays."""
    decay = steps_of(hyperparameters.num_decay_steps, total_steps)
    return max(_warmup(hyperparameters, total_steps), total_steps - decay)


def _warmup(hyperparameters: Hyperparameters, total_steps: int) -> int:
    """Return the steps of warmup; a share is rounded up, as transformers does."""
    asked = hyperparameters.warmup_steps
    steps = int(asked) if asked >= 1 else math.ceil(asked * total_steps)
    return min(steps, total_steps - 1)
