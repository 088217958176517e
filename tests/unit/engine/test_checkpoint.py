"""The states of random generators in a checkpoint."""

from typing import Any

import pytest
import torch

from engine import checkpoint


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the states that a GPU's generator was set to, in a process that works on the third GPU."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor([7], dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state: taken.append(int(state)))
    return taken


def states(count: int) -> dict[str, Any]:
    return checkpoint._rng_state() | {"cuda": [torch.tensor([number], dtype=torch.uint8) for number in range(count)]}


@pytest.mark.parametrize(("count", "expected"), [(4, [2]), (1, [0]), (0, [])])
def test_the_generator_of_the_own_gpu_is_restored_however_many_were_saved(restored, count, expected):
    checkpoint._set_rng_state(states(count))
    assert restored == expected


@pytest.mark.usefixtures("restored")
def test_the_generator_of_the_own_gpu_alone_is_saved():
    assert [int(state) for state in checkpoint._rng_state()["cuda"]] == [7]


def test_a_run_on_the_cpu_leaves_gpus_alone():
    before = torch.get_rng_state()
    assert checkpoint._rng_state()["cuda"] == []
    checkpoint._set_rng_state(states(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.cuda.is_initialized()
