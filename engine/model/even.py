"""Lengths that vary from batch to batch, rounded up to a few, where each new one costs more than what is added.

In 16 bits a CPU multiplies through oneDNN, which makes machine code for every shape that it meets and keeps it: one to
two milliseconds and a quarter of a MB, where the product itself takes a tenth of that. fp32 goes another way, and on a
GPU there is code for all shapes.
"""

import torch
from torch import Tensor
from torch.nn import functional

STEP = 64
_AN_OCTAVE = 8
"""So many lengths are left between a power of two and the next, from 512 on: an eighth at most is added there."""


def step_of(device: torch.device, dtype: torch.dtype) -> int:
    """Lengths are to be multiples of this."""
    return STEP if device.type == "cpu" and dtype.itemsize < torch.float32.itemsize else 1


def up(length: int, step: int) -> int:
    """The next multiple."""
    return -(-length // step) * step


def rows(count: int, step: int) -> int:
    """So many rows are to be worked on in place of `count`: long ones are rounded up further than short ones."""
    if step == 1 or not count:
        return count
    return up(count, max(step, (1 << (count.bit_length() - 1)) // _AN_OCTAVE))


def with_zeros(states: Tensor, count: int) -> Tensor:
    """Zeros behind the rows, so that there are `count`."""
    missing = count - len(states)
    return functional.pad(states, (0, 0) * (states.dim() - 1) + (0, missing)) if missing else states
