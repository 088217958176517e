"""Rounding lengths that vary from batch to batch up to a few, where every new length costs more than the padding.

In 16 bits a CPU multiplies through oneDNN, which compiles and caches code for every shape: that takes several times as
long as most products. fp32 takes another path, and a GPU has code for all shapes.
"""

STEP = 64
_FP32 = 4
_AN_OCTAVE = 8
"""The number of lengths between a power of two and the next, from 512 on: at most an eighth is added there."""


def step_of(device: str, number_bytes: int) -> int:
    """Return what lengths must be multiples of, for products of numbers of this size on `cpu` or `cuda`."""
    return STEP if device == "cpu" and number_bytes < _FP32 else 1


def up(length: int, step: int) -> int:
    """Return the next multiple of `step`."""
    return -(-length // step) * step


def rows(count: int, step: int) -> int:
    """Return `count` rounded up to an allowed length; long ones are rounded up further than short ones."""
    if step == 1 or not count:
        return count
    return up(count, max(step, (1 << (count.bit_length() - 1)) // _AN_OCTAVE))
