"""The desk's Unix socket, as its clients and the desk itself (workers.desk) need to know it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_QUESTION_BYTES = 8 << 20
"""The longest line that the desk reads."""


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address for the socket at `path` that is short enough for the kernel, which takes 107 bytes at most.

    It leads through a descriptor of the socket's folder, and is valid until the exit.

    Raises:
        OSError: the folder does not exist.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
