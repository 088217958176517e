"""Optimizers: the size of their state, offloading, and loss scaling."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import offload, optim
from engine.checkpoint import Progress
from engine.failure import classified
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


def trained(given: optim.Trainable, *, state_in: offload.LiesIn = None, **hyper: Any) -> torch.optim.Optimizer:
    made = optim.make_optimizer(given, Hyperparameters(**hyper), state_in=state_in)
    stepped(made, given, range(5))
    return made


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that are updated in several parts, the last of them a ragged one."""
    monkeypatch.setattr(offload, "AT_ONCE", 1024)


def on_disk(given: optim.Trainable, folder: Path, **hyper: Any) -> optim.AdamWOnDisk:
    made = optim.make_optimizer(given, Hyperparameters(**hyper), state_in=folder)
    assert isinstance(made, optim.AdamWOnDisk)
    return made


def saved(made: torch.optim.Optimizer, given: optim.Trainable) -> bytes:
    file = io.BytesIO()
    torch.save(optim.state_of(made, given), file)
    return file.getvalue()


def same(one: optim.Trainable, other: optim.Trainable) -> bool:
    return all(torch.equal(p, q) for (_, p), (_, q) in zip(one, other, strict=True))


def state_bytes(made: torch.optim.Optimizer) -> int:
    return sum(t.nbytes for state in made.state.values() for t in state.values() if isinstance(t, torch.Tensor))


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_an_offloaded_state_gives_the_same_weights(name):
    here, away = weights(), weights()
    trained(here, optim=name, weight_decay=0.1)
    trained(away, optim=name, weight_decay=0.1, state_in=offload.HOME)
    assert same(here, away)
    assert not same(here, weights())


def test_an_offloaded_optimizer_updates_copies_and_leaves_no_gradient_behind():
    given = weights()
    made = trained(given, state_in=offload.HOME)
    held = [p for group in made.param_groups for p in group["params"]]
    assert {id(p) for _, p in given}.isdisjoint(map(id, held))
    assert all(p.grad is None for p in [*held, *(p for _, p in given)])


@pytest.mark.parametrize("state_in", [None, offload.HOME])
@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_an_optimizer_put_back_from_its_state_goes_on_bit_for_bit(name, state_in):
    whole, broken = weights(), weights()
    stepped(trained(whole, optim=name, state_in=state_in), whole, range(5, 9))
    state = trained(broken, optim=name, state_in=state_in).state_dict()
    for keep_state in (True, False):
        copies = [(n, torch.nn.Parameter(p.detach().clone())) for n, p in broken]
        made = optim.make_optimizer(copies, Hyperparameters(optim=name), state_in=state_in)  # type: ignore[arg-type]
        if keep_state:
            made.load_state_dict(state)
        stepped(made, copies, range(5, 9))
        assert same(copies, whole) == keep_state


@pytest.mark.usefixtures("small_parts")
def test_a_state_on_the_disk_gives_the_same_weights_and_the_same_checkpoint_to_the_bit(tmp_path):
    here, away = [*weights(), ("odd", odd())], [*weights(), ("odd", odd())]
    made = on_disk(away, tmp_path, weight_decay=0.1)
    stepped(made, away, range(5))
    kept = trained(here, weight_decay=0.1)
    assert same(here, away)
    assert saved(kept, here) == saved(made, away)
    assert made.on_disk_bytes == state_bytes(kept) - sum(state["step"].nbytes for state in kept.state.values())
    assert list(tmp_path.iterdir()) == []


def odd() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(77, 39))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (True, True)])
def test_a_state_goes_to_the_disk_and_back_bit_for_bit(tmp_path, before, after):
    def made(given: optim.Trainable, *, away: bool) -> torch.optim.Optimizer:
        return on_disk(given, tmp_path) if away else optim.make_optimizer(given, Hyperparameters())

    whole, broken = weights(), weights()
    stepped(trained(whole), whole, range(5, 9))
    first = made(broken, away=before)
    stepped(first, broken, range(5))
    state = optim.state_of(first, broken)
    for keep_state in (True, False):
        copies = [(n, torch.nn.Parameter(p.detach().clone())) for n, p in broken]
        went_on = made(copies, away=after)
        if keep_state:
            optim.restore(
                went_on, copies, {name: {k: v.clone() for k, v in each.items()} for name, each in state.items()}
            )
            assert saved(went_on, copies) == saved(first, broken)
        stepped(went_on, copies, range(5, 9))
        assert same(copies, whole) == keep_state


def test_a_weight_without_a_gradient_has_no_state_on_the_disk_either(tmp_path):
    given = weights()
    made = on_disk(given, tmp_path)
    given[0][1].grad = torch.ones_like(given[0][1])
    made.step()
    assert optim.state_of(made, given).keys() == {given[0][0]}


def resident_file_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile")]
    return int(line.split()[1]) * 1024


def test_what_is_updated_and_saved_of_it_does_not_stay_resident(tmp_path):
    given: optim.Trainable = [(str(n), torch.nn.Parameter(torch.zeros(1 << 22))) for n in range(4)]
    made = on_disk(given, tmp_path)
    before = resident_file_bytes()
    stepped(made, given, range(1))
    assert resident_file_bytes() - before < made.on_disk_bytes / 8
    state = optim.state_of(made, given)
    with (tmp_path / "saved").open("wb") as file:
        sparing: Any = offload.Sparing(file, [held for each in state.values() for held in each.values()])
        torch.save(state, sparing)
    assert resident_file_bytes() - before < made.on_disk_bytes / 8
    assert sum(float(each["exp_avg"].sum()) for each in state.values()) != 0
    assert resident_file_bytes() - before > made.on_disk_bytes / 3  # the means alone were read


def test_a_disk_that_cannot_hold_the_state_is_found_full_before_anything_is_written(tmp_path):
    vast: optim.Trainable = [("w", torch.nn.Parameter(torch.empty(1 << 50, device="meta")))]
    with pytest.raises(OSError, match=r"8388608\.00 GiB") as failed:
        on_disk(vast, tmp_path)
    assert failed.value.errno == errno.ENOSPC
    assert os.strerror(errno.ENOSPC) in classified(failed.value).message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "home"), [(False, "none"), (True, "cpu"), ("nvme", "disk"), ("disk", "disk"), ("none", "none")]
)
def test_where_state_and_weights_lie_has_the_names_that_others_give_it(given, home):
    assert Hyperparameters(offload_optimizer=given).offload_optimizer == home
    assert Hyperparameters(offload_param=given).offload_param == home


def test_a_state_in_eight_bits_is_not_put_on_the_disk():
    with pytest.raises(ValueError, match="adamw_8bit") as refused:
        Hyperparameters(offload_optimizer="disk", optim="adamw_8bit")
    assert "set optim to 'adamw'" in str(refused.value)


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


@pytest.mark.parametrize("left", [0.0, LossScale.FIRST], ids=["never scaled", "gone on with from fp16"])
def test_other_types_are_not_scaled(left: float):
    made = scale(left, "bf16")
    assert made.value == 1.0
    assert not made.overflows(float("inf"))
