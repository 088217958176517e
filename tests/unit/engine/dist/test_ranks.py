"""Errors while ranks communicate: another rank's, or this one's own."""

from collections.abc import Callable

import pytest
import torch

from engine.dist.ranks import as_touch_lost
from engine.errors import FailureClass
from engine.failure import classified


def failure_of(work: Callable[[], object]) -> FailureClass:
    """How a run fails where an error is raised while ranks communicate."""
    try:
        with as_touch_lost():
            work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it has a class
        return classified(error).failure
    raise AssertionError("nothing was raised")


def without_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def without_neighbour() -> None:
    raise RuntimeError("Connection reset by peer")


@pytest.mark.parametrize("work", [lambda: torch.empty(1 << 50), without_gpu_memory], ids=["cpu", "gpu"])
def test_a_rank_that_has_no_memory_to_add_up_gradients_says_so(work):
    assert failure_of(work) == FailureClass.OUT_OF_MEMORY


def test_any_other_error_means_that_another_rank_is_gone():
    assert failure_of(without_neighbour) == FailureClass.WORKER_LOST
