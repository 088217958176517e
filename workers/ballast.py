"""The ballast: a file that reserves disk space, and is deleted when the disk is full."""

import logging
import os
import shutil
from pathlib import Path

_NEARLY_NONE_BYTES = 8 << 20
_LOG = logging.getLogger(__name__)


class Ballast:
    """A file without content. Without it a full disk would stay full, since SQLite has to write to delete a row."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._refused = False

    def keep(self) -> None:
        """Create or delete the file, by the free space of its disk. An error is logged once and not raised."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.tend(shutil.disk_usage(self._path.parent).free)
        except OSError as error:
            if not self._refused:
                _LOG.warning("the ballast cannot be created or deleted: %s", error)
            self._refused = True
        else:
            self._refused = False

    def tend(self, free_bytes: int) -> None:
        """Delete the file when almost no space is free; create it again once there is room for several of its size."""
        if self._path.exists():
            if free_bytes < _NEARLY_NONE_BYTES:
                self._path.unlink()
                _LOG.warning("the disk is full: %d reserved bytes were freed", self._size_bytes)
        elif self._size_bytes and free_bytes > _NEARLY_NONE_BYTES + 4 * self._size_bytes:
            self._take()

    def _take(self) -> None:
        part = self._path.with_name(self._path.name + ".part")
        with part.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        part.replace(self._path)
