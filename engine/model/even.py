"""Lengths that vary from batch to batch, rounded up to a few, where each new one costs more than what is added.

In 16 bits a CPU multiplies through oneDNN, which makes machine code for every shape that it meets and keeps it: one to
two milliseconds and a third of a MB, where the product itself takes a tenth of that. fp32 goes another way, and on a
GPU there is code for all shapes.
"""

import torch
from torch import Tensor
from torch.nn import functional

STEP = 64


def step(device: torch.device, dtype: torch.dtype) -> int:
    """Lengths are to be multiples of this."""
    return STEP if device.type == "cpu" and dtype.itemsize < torch.float32.itemsize else 1


def up(length: int, step: int) -> int:
    """The next multiple."""
    return -(-length // step) * step


def with_zeros(rows: Tensor, step: int) -> Tensor:
    """As many rows of zeros behind the others as make a multiple of `step`."""
    missing = -len(rows) % step
    return functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows
