"""The cache folder that jobs share: what they would otherwise compute again, within a limit."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from engine.journal import Journal

WRITING = ".writing"
"""Ends the name of a file that is not yet whole."""
_ABANDONED_S = {WRITING: 3600.0, ".part": 86_400.0}
"""Seconds without a write after which a file of this suffix was left by a process that is gone: whole files are written
in seconds, parts of a longer computation (engine.reference) are written again every minute."""
_SWEEP_SHARE = 16
"""Files are removed when this part of the limit has been written since they were last counted."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class CacheFolder:
    """Files that are written once, appear by rename and never change; beyond the limit, the least recently used go.

    Several processes may use one folder. A full disk is no failure: what is not kept is computed again.
    """

    def __init__(self, root: Path, limit_bytes: int, journal: Journal | None = None) -> None:
        """`root` holds the files, in folders of any depth; `journal` is where a full disk is logged, once."""
        self.root = root
        self.limit_bytes = limit_bytes
        self.journal = journal
        self._full = False
        self._unswept_bytes = limit_bytes  # what earlier processes left is counted with the first file

    def write(self, path: Path, write: Callable[[IO[bytes]], None], *, durable: bool = False) -> None:
        """Have `write` make the file at `path`; a process that is killed, or a full disk, leaves no half of it.

        `durable`: a power cut leaves none either. Once there was no room, this object writes nothing more.
        """
        if self._full:
            return
        try:
            self._unswept_bytes += _write_whole(path, write, durable=durable)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._full = True
            self._log(error)
            return
        if self._unswept_bytes >= self.limit_bytes // _SWEEP_SHARE:
            self._sweep()

    def _log(self, error: OSError) -> None:
        if self.journal is not None:
            message = f"the cache cannot be written ({error.strerror}); the job goes on without keeping anything in it"
            self.journal.log("warn", "cache_full", message)

    def _sweep(self) -> None:
        """Remove abandoned files, then the least recently used until there is room for what the next sweep may find."""
        found = []
        for path in self.root.rglob("*.*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # removed by another process, or renamed by the one that wrote it
            if time.time() - status.st_mtime > _ABANDONED_S.get(path.suffix, float("inf")):
                path.unlink(missing_ok=True)
            elif path.suffix != WRITING:
                found.append((status.st_mtime, status.st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if held <= self.limit_bytes - self.limit_bytes // _SWEEP_SHARE:
                break
            path.unlink(missing_ok=True)
            held -= size
        self._unswept_bytes = 0


def _write_whole(path: Path, write: Callable[[IO[bytes]], None], *, durable: bool) -> int:
    """Write beside the path and rename; returns the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=WRITING, delete=False) as file:
        beside = Path(file.name)
        try:
            write(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        size_bytes = file.tell()
    beside.rename(path)
    return size_bytes
