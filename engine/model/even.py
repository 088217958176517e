"""Lengths that vary from batch to batch, rounded up to a few, where each new one costs more than what is added.

In 16 bits a CPU multiplies through oneDNN, which makes machine code for every shape that it meets and keeps it: one to
two milliseconds and a third of a MB, where the product itself takes a tenth of that. fp32 goes another way, and on a
GPU there is code for all shapes.
"""

import torch
from torch import Tensor
from torch.nn import functional

STEP = 64
_SHARE = 8
"""Of a length that is long, so much of the power of two below it: an eighth at most is added, and mostly far less."""


def step(device: torch.device, dtype: torch.dtype) -> int:
    """Ends of documents are to be multiples of this."""
    return STEP if device.type == "cpu" and dtype.itemsize < torch.float32.itemsize else 1


def up(length: int, step: int) -> int:
    """The next multiple."""
    return -(-length // step) * step


def rows(count: int, step: int) -> int:
    """So many rows are to be worked on in place of `count`: many shapes of linear layers hang on them."""
    if step == 1 or not count:
        return count
    return up(count, max(step, (1 << (count.bit_length() - 1)) // _SHARE))


def with_zeros(states: Tensor, count: int) -> Tensor:
    """Zeros behind the rows, so that there are `count`."""
    missing = count - len(states)
    return functional.pad(states, (0, 0) * (states.dim() - 1) + (0, missing)) if missing else states
