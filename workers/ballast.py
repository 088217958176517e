"""The ballast: space that is taken in good time, to be given up when a disk is full."""

import logging
import os
import shutil
from pathlib import Path

_NEARLY_NONE_BYTES = 8 << 20
_LOG = logging.getLogger(__name__)


class Ballast:
    """A file that holds nothing. Without it a full disk stays full: to delete a row, SQLite has to write too."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._refused = False

    def keep(self) -> None:
        """Tend it by what is free on its own disk. One that refuses is told of once and stops nobody."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.tend(shutil.disk_usage(self._path.parent).free)
        except OSError as error:
            if not self._refused:
                _LOG.warning("the ballast cannot be tended: %s", error)
            self._refused = True
        else:
            self._refused = False

    def tend(self, free_bytes: int) -> None:
        """Drop it where almost nothing is free any more; take it again once there is room for it several times over."""
        if self._path.exists():
            if free_bytes < _NEARLY_NONE_BYTES:
                self._path.unlink()
                _LOG.warning("the disk is full: %d bytes that were kept for this are free now", self._size_bytes)
        elif self._size_bytes and free_bytes > _NEARLY_NONE_BYTES + 4 * self._size_bytes:
            self._take()

    def _take(self) -> None:
        part = self._path.with_name(self._path.name + ".part")
        with part.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        part.replace(self._path)
