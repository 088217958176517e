"""Tokenized blocks on disk, found by their content: whoever tokenizes the same bytes in the same way has them at once."""

import os
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from engine.data.corpus import Corpus
from engine.rundir import RunDirectory

_SUFFIX, _WRITING = ".npz", ".writing"
_ABANDONED_S = 3600.0
"""A block is written in seconds: what is still unnamed after this was left by a process that is gone."""
_SWEEP_SHARE = 16
"""Files are removed when this part of the limit has been written since they were last counted."""


class BlockCache:
    """Blocks are written once, appear by rename and are never changed; the oldest used go when the limit is passed."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._unswept_bytes = limit_bytes  # what earlier processes left is counted with the first block

    @classmethod
    def of_run(cls, run: RunDirectory) -> "BlockCache":
        return cls(run.cache / "blocks", run.cache_limit_bytes)

    def find(self, key: str) -> Corpus | None:
        """The block, or None when it is not there or not whole."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                tokens = int(held["starts"][-1])
                corpus = Corpus(
                    ids=held["ids"].astype(np.int32),
                    trained=np.unpackbits(held["trained"], count=tokens).astype(np.bool_),
                    starts=held["starts"],
                    lines=held["lines"],
                    sizes_bytes=held["sizes_bytes"],
                )
            os.utime(path)
        # Another process may remove it at any time; a power cut may leave a part of it, or zeros in its place.
        except (FileNotFoundError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, AttributeError):
            return None
        return corpus

    def keep(self, key: str, corpus: Corpus) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        smallest = np.min_scalar_type(int(corpus.ids.max(initial=0)))
        with NamedTemporaryFile(dir=path.parent, suffix=_WRITING, delete=False) as file:
            np.savez(
                file,
                ids=corpus.ids.astype(smallest),
                trained=np.packbits(corpus.trained),
                starts=corpus.starts,
                lines=corpus.lines,
                sizes_bytes=corpus.sizes_bytes,
            )
            self._unswept_bytes += file.tell()
        Path(file.name).rename(path)
        if self._unswept_bytes >= self.limit_bytes // _SWEEP_SHARE:
            self._sweep()

    def _sweep(self) -> None:
        """Remove the oldest used until the rest is within the limit, with room for what is written until the next time."""
        found = []
        for path in self.folder.glob("*/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # swept by another process, or named by the one that wrote it
            if path.suffix == _WRITING:
                if time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
                continue
            found.append((status.st_mtime, status.st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if held <= self.limit_bytes - self.limit_bytes // _SWEEP_SHARE:
                break
            path.unlink(missing_ok=True)
            held -= size
        self._unswept_bytes = 0

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"


def at_line(corpus: Corpus, line: int) -> Corpus:
    """The block's lines counted from another one: it may stand anywhere in a file."""
    return replace(corpus, lines=corpus.lines + line)
