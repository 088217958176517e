"""Tokenized blocks on disk, found by their content: the same bytes are tokenized in the same way only once."""

import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from engine.cache_folder import CacheFolder
from engine.data.corpus import Corpus
from engine.rundir import RunDirectory

_SUFFIX = ".npz"


class BlockCache:
    """Blocks by key, in a folder that other jobs use too."""

    def __init__(self, folder: Path, limit_bytes: int, *, root: Path | None = None) -> None:
        """The limit is for all that is in `root`, by default the folder itself."""
        self.folder = folder
        self.files = CacheFolder(root or folder, limit_bytes)

    @classmethod
    def of_run(cls, run: RunDirectory) -> "BlockCache":
        return cls(run.cache / "blocks", run.cache_limit_bytes, root=run.cache)

    def find(self, key: str) -> Corpus | None:
        """Return the block, or None when it is not there or not whole."""
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
        smallest = np.min_scalar_type(int(corpus.ids.max(initial=0)))

        def write(file: IO[bytes]) -> None:
            np.savez(
                file,
                ids=corpus.ids.astype(smallest),
                trained=np.packbits(corpus.trained),
                starts=corpus.starts,
                lines=corpus.lines,
                sizes_bytes=corpus.sizes_bytes,
            )

        self.files.write(self._path(key), write)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"


def at_line(corpus: Corpus, line: int) -> Corpus:
    """Return the corpus with its lines shifted by `line`: a block is kept as if it were the first of its file."""
    return replace(corpus, lines=corpus.lines + line)
