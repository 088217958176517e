"""The C library's heap: what a step frees stays with the process, since the next step takes as much."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
_NEVER = -1
_LARGE_BYTES = 2**30


def keep_freed() -> None:
    """From now on; nothing changes where the C library has no such settings.

    By itself it maps the largest tensors anew each time, and hands the top of the heap back after each backward pass, so
    that the system zeroes every page before it is written again: time that a step of pre-training on a CPU does not have
    to spend.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Older releases refuse so high a threshold, and would no longer move their own once the other was set.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES):
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
