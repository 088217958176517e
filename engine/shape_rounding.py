"""Lengths that vary from batch to batch, rounded up to a few, where each new one costs more than what is added.

In 16 bits a CPU multiplies through oneDNN, which makes machine code for every shape that it meets and keeps it: that
takes several times as long as most products do. fp32 goes another way, and on a GPU there is code for all shapes.
"""

STEP = 64
_FP32 = 4
_AN_OCTAVE = 8
"""So many lengths are left between a power of two and the next, from 512 on: an eighth at most is added there."""


def step_of(device: str, number_bytes: int) -> int:
    """Lengths are to be multiples of this where products are of such numbers, on `cpu` or `cuda`."""
    return STEP if device == "cpu" and number_bytes < _FP32 else 1


def up(length: int, step: int) -> int:
    """The next multiple."""
    return -(-length // step) * step


def rows(count: int, step: int) -> int:
    """So many rows are to be worked on in place of `count`: long ones are rounded up further than short ones."""
    if step == 1 or not count:
        return count
    return up(count, max(step, (1 << (count.bit_length() - 1)) // _AN_OCTAVE))
