"""Looking for garbage, where there is none to find: Python's collector while libraries are imported."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """What is imported inside is not looked through, then or later: it is for good, and several hundred thousand objects.

    Looking through them again and again is a sixth of the seconds that torch and transformers take to import, and a fork
    that did so would have a copy of its own of them all.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
