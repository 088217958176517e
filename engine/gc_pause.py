"""Pausing Python's garbage collector while libraries are imported, when there is no garbage to find."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Keep the collector from scanning what is imported inside, then and later: several hundred thousand lasting objects.

    Scanning them again and again takes a sixth of the time of importing torch and transformers, and a fork that did so
    would get its own copy of them all.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
