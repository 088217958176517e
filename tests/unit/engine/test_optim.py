"""Optimizers: their state's size, offloading, and loss scaling."""

from typing import Any

import pytest
import torch

from engine import optim
from engine.checkpoint import Progress
from engine.parts import Hyperparameters
from engine.precision import LossScale


def weights() -> optim.Trainable:
    torch.manual_seed(0)
    return [(str(n), torch.nn.Parameter(torch.randn(shape))) for n, shape in enumerate([(96, 64), (64,), (8, 8)])]


def stepped(made: torch.optim.Optimizer, given: optim.Trainable, steps: range) -> None:
    optim.set_rate(made, 0.01)
    for step in steps:
        torch.manual_seed(step)
        for _, p in given:
            p.grad = torch.randn_like(p)
        made.step()
        optim.clear(given)


def trained(given: optim.Trainable, *, offload: bool = False, **hyper: Any) -> torch.optim.Optimizer:
    made = optim.make_optimizer(given, Hyperparameters(**hyper), offload=offload)
    stepped(made, given, range(5))
    return made


def same(one: optim.Trainable, other: optim.Trainable) -> bool:
    return all(torch.equal(p, q) for (_, p), (_, q) in zip(one, other, strict=True))


def state_bytes(made: torch.optim.Optimizer) -> int:
    return sum(t.nbytes for state in made.state.values() for t in state.values() if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_an_offloaded_state_gives_the_same_weights(name):
    here, away = weights(), weights()
    trained(here, optim=name, weight_decay=0.1)
    trained(away, optim=name, weight_decay=0.1, offload=True)
    assert same(here, away)
    assert not same(here, weights())


def test_an_offloaded_optimizer_updates_copies_and_leaves_no_gradient_behind():
    given = weights()
    made = trained(given, offload=True)
    held = [p for group in made.param_groups for p in group["params"]]
    assert {id(p) for _, p in given}.isdisjoint(map(id, held))
    assert all(p.grad is None for p in [*held, *(p for _, p in given)])


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_an_optimizer_put_back_from_its_state_goes_on_bit_for_bit(name, offload):
    whole, broken = weights(), weights()
    stepped(trained(whole, optim=name, offload=offload), whole, range(5, 9))
    state = trained(broken, optim=name, offload=offload).state_dict()
    for keep_state in (True, False):
        copies = [(n, torch.nn.Parameter(p.detach().clone())) for n, p in broken]
        made = optim.make_optimizer(copies, Hyperparameters(optim=name), offload=offload)  # type: ignore[arg-type]
        if keep_state:
            made.load_state_dict(state)
        stepped(made, copies, range(5, 9))
        assert same(copies, whole) == keep_state


def test_eight_bits_hold_large_tensors_in_a_quarter_of_the_bytes():
    large: optim.Trainable = [("w", torch.nn.Parameter(torch.randn(256, 256)))]
    assert state_bytes(trained(large, optim="adamw_8bit")) < 0.3 * state_bytes(trained(large))


def test_eight_bits_stay_near_thirty_two():
    full, eight = weights(), weights()
    trained(full)
    trained(eight, optim="adamw_bnb_8bit")
    first, ours, theirs = (given[0][1].detach() for given in (weights(), full, eight))
    assert 0 < float((ours - theirs).norm() / (ours - first).norm()) < 0.1


def scale(value: float, precision: str = "fp16") -> LossScale:
    return LossScale(Progress(loss_scale=value), precision)


def test_the_loss_scale_halves_where_a_gradient_overflows():
    made = scale(1024.0)
    assert made.overflows(float("inf"))
    assert made.value == 512.0


def test_at_scale_one_an_infinite_gradient_is_no_overflow():
    assert not scale(1.0).overflows(float("nan"))


def test_the_loss_scale_doubles_after_steps_without_overflow_and_never_passes_its_limit():
    made = scale(1024.0)
    for _ in range(LossScale.STEPS_TO_GROW):
        assert made.value == 1024.0
        assert not made.overflows(1.0)
    assert made.value == 2048.0
    made = scale(LossScale.HIGHEST)
    assert not any(made.overflows(1.0) for _ in range(LossScale.STEPS_TO_GROW))
    assert made.value == LossScale.HIGHEST


def test_undoing_the_scale_is_exact():
    p = torch.nn.Parameter(torch.randn(100))
    kept = torch.randn(100)
    p.grad = kept * LossScale.FIRST
    scale(LossScale.FIRST).undo([p])
    assert torch.equal(p.grad, kept)


def test_other_types_are_not_scaled():
    made = scale(0.0, "bf16")
    assert made.value == 1.0
    assert not made.overflows(float("inf"))
