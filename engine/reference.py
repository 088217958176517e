"""Scores of the starting weights on every document: computed once, then found by content."""

import hashlib
import os
import time
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.cache_folder import CacheFolder
from engine.data.corpus import Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.journal import Journal
from engine.model.logprobs import document_logprobs
from engine.precision import Machine
from engine.rundir import RunDirectory

_WEIGHTS = ("*.safetensors", "config.json", "adapter_config.json")
"""Files of a model or adapter that its scores depend on. Its tokenizer is not among them: the tokens are in the key."""
_KEEP_EVERY_S = 60.0
"""Work that an attempt loses at most when it ends before all documents are scored."""
_PART = ".part"


class ReferenceCache:
    """Scores on disk, by the weights, the tokens and how they were computed, for other processes and jobs to find."""

    def __init__(self, run: RunDirectory, machine: Machine, *setting: object, journal: Journal | None = None) -> None:
        """`setting` is all else that the scores depend on, to their last bit; a full disk is logged in `journal`."""
        self.files = CacheFolder(run.cache, run.cache_limit_bytes, journal)
        computed = " ".join(map(str, ("reference", machine.device.type, machine.precision, *setting)))
        self._start = hashlib.sha256(computed.encode())
        for folder in filter(None, (run.model, run.adapter)):
            for path in sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
                with path.open("rb") as file:
                    self._start.update(hashlib.file_digest(file, "sha256").digest())

    def find(self, corpus: Corpus) -> NDArray[np.float32] | None:
        """Return the scores, or None when they are not there or not whole."""
        return _read(self._path(corpus), len(corpus))

    def begun(self, corpus: Corpus) -> NDArray[np.float32]:
        """Return the scores that an attempt left which ended before its end, NaN for the documents without one."""
        found = _read(self._part(corpus), len(corpus))
        return np.full(len(corpus), np.nan, np.float32) if found is None else found

    def keep_begun(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        self.files.write(self._part(corpus), partial(_save, scores), durable=True)

    def keep(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        self.files.write(self._path(corpus), partial(_save, scores), durable=True)
        self._part(corpus).unlink(missing_ok=True)

    def _part(self, corpus: Corpus) -> Path:
        return self._path(corpus).with_suffix(_PART)

    def _path(self, corpus: Corpus) -> Path:
        digest = self._start.copy()
        for array in (corpus.ids, corpus.trained, corpus.starts):
            digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()
        return self.files.root / key[:2] / f"{key}.npy"


def _save(scores: NDArray[np.float32], file: IO[bytes]) -> None:
    np.save(file, scores)


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    try:
        with path.open("rb") as file:
            scores = np.load(file, allow_pickle=False)
        os.utime(path)
    # Another process may remove it at any time; a power cut may leave a part of it, or zeros in its place.
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return scores if scores.shape == (count,) else None


@torch.no_grad()
def reference_scores(
    model: nn.Module, corpus: Corpus, machine: Machine, token_budget: int, cache: ReferenceCache
) -> NDArray[np.float32]:
    """Return the log-probability of each document's labels under `model`, in the corpus's order.

    They are kept in the cache while they are computed.
    """
    was_training = model.training
    model.eval()
    scores, kept_s = cache.begun(corpus), time.monotonic()
    for documents in documents_in_order(corpus, token_budget):
        if not np.isnan(scores[documents]).any():
            continue  # a batch is scored whole or not at all: what shares a batch bears on the last bits of the scores
        with machine.autocast():
            sums_S, _ = document_logprobs(model, batch_of(corpus, documents).to(machine.device))
        scores[documents] = sums_S.float().cpu().numpy()
        if time.monotonic() - kept_s >= _KEEP_EVERY_S:
            cache.keep_begun(corpus, scores)
            kept_s = time.monotonic()
    model.train(was_training)
    cache.keep(corpus, scores)
    return scores
