"""Learning rates by step."""

import pytest
from pydantic import ValidationError
from transformers import TrainingArguments

from engine.parts import Hyperparameters
from engine.schedule import learning_rate, steps_of, times_due


def rates(kind: str, warmup: float = 0, total: int = 100) -> list[float]:
    hyper = Hyperparameters(learning_rate=1.0, lr_scheduler_type=kind, warmup_steps=warmup)  # type: ignore[arg-type]
    return [learning_rate(hyper, step, total) for step in range(total)]


@pytest.mark.parametrize(("value", "steps"), [(0, 0), (0.03, 3), (0.0001, 1), (1, 1), (12, 12)])
def test_below_one_is_a_share_and_above_a_number(value, steps):
    assert steps_of(value, 100) == steps


@pytest.mark.parametrize(("share", "total"), [(0.03, 40), (0.03, 50), (0.25, 5), (0.07, 100), (0.5, 1001)])
def test_a_share_of_warmup_is_as_many_steps_as_in_transformers(share, total):
    theirs = TrainingArguments(warmup_steps=share, use_cpu=True).get_warmup_steps(total)
    made = rates("constant", warmup=share, total=total)
    assert [rate < 1 for rate in made] == [step < theirs for step in range(total)]


def test_a_warmup_ratio_of_1_is_not_taken_for_one_step():
    assert Hyperparameters.model_validate({"warmup_ratio": 0.5}).warmup_steps == 0.5
    with pytest.raises(ValidationError, match="warmup_ratio is 1; a fraction of the steps is below 1"):
        Hyperparameters.model_validate({"warmup_ratio": 1.0})


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "wsd"])
def test_every_schedule_starts_at_the_peak_after_warmup(kind):
    made = rates(kind, warmup=10)
    assert made[10] == pytest.approx(1.0)
    assert made[0] == pytest.approx(1 / 11)
    assert max(made) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "half", "last"), [("linear", 0.5, 0.01), ("cosine", 0.5, 0.000247), ("constant", 1, 1)]
)
def test_schedules_come_down_as_named(kind, half, last):
    made = rates(kind)
    assert made[50] == pytest.approx(half)
    assert made[99] == pytest.approx(last, rel=1e-2)


def test_wsd_is_flat_until_its_last_fifth():
    made = rates("wsd")
    assert made[:81] == pytest.approx([1.0] * 81)
    assert made[90] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "wsd"])
def test_a_run_of_one_step_learns(kind):
    assert rates(kind, warmup=0.03, total=1) == [1.0]


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_a_schedule_with_a_floor_ends_there(kind):
    hyper = Hyperparameters.model_validate(
        {"learning_rate": 2.0, "lr_scheduler_type": kind, "min_lr_ratio": 0.1, "warmup_steps": 0}
    )
    made = [learning_rate(hyper, step, 1000) for step in range(1000)]
    assert made[-1] == pytest.approx(0.2, rel=0.05)
    assert min(made) >= 0.2


@pytest.mark.parametrize(("decay", "first_lower"), [(0.5, 51), (10, 91)])
def test_wsd_comes_down_in_the_share_or_number_of_steps_asked_for(decay, first_lower):
    hyper = Hyperparameters(learning_rate=1.0, lr_scheduler_type="wsd", warmup_steps=0, num_decay_steps=decay)
    made = [learning_rate(hyper, step, 100) for step in range(100)]
    assert next(step for step, rate in enumerate(made) if rate < 1) == first_lower


@pytest.mark.parametrize("every", [1, 7, 10, 100, 0.1, 0.25])
def test_times_due_are_those_of_every_so_many_steps_and_of_the_end(every: float):
    total = 37
    due = [step for step in range(1, total + 1) if step % steps_of(every, total) == 0 or step == total]
    for after in range(total):
        assert times_due(every, total, after=after) == sum(step > after for step in due)
