"""The C library's heap: memory that a step frees stays with the process, since the next step needs as much."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of glibc's malloc.h."""
_NEVER = -1
_LARGE_BYTES = 2**30


def keep_freed() -> None:
    """Have malloc keep freed memory from now on; does nothing where the C library has no such settings.

    By default it maps the largest tensors anew each time and returns the top of the heap after each backward pass, and
    the kernel zeroes every page before it is written again: time that pre-training on a CPU can save.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Older releases refuse so high a threshold, and would no longer move their own once the other was set.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES):
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
