"""What the starting weights make of every document: scored once, and found again by content."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.data.corpus import Corpus, batch_of
from engine.data.stream import documents_in_order
from engine.model.logprobs import document_logprobs
from engine.precision import Machine
from engine.rundir import RunDirectory

_TELLING = ("*.safetensors", "config.json", "adapter_config.json")
"""Files of a model or adapter that its scores depend on; tokens are told by themselves."""
_KEEP_EVERY_S = 60.0
"""What is scored in less is all that an attempt that ends in the midst of it loses."""
_PART, _WRITING = ".part", ".writing"
_ABANDONED_S = 86_400.0
"""What was begun and is not gone on with for so long was left by a job that never came back."""


class ReferenceCache:
    """Scores by weights, tokens, and how they were computed: another process or job with the same finds them."""

    def __init__(self, run: RunDirectory, machine: Machine, *setting: object) -> None:
        """`setting` is what else the scores depend on, down to their last bit."""
        self.folder = run.cache
        told = " ".join(map(str, ("reference", machine.device.type, machine.precision, *setting)))
        self._start = hashlib.sha256(told.encode())
        for folder in filter(None, (run.model, run.adapter)):
            for path in sorted(path for pattern in _TELLING for path in folder.glob(pattern)):
                with path.open("rb") as file:
                    self._start.update(hashlib.file_digest(file, "sha256").digest())

    def find(self, corpus: Corpus) -> NDArray[np.float32] | None:
        """The scores, or None when they are not there or not whole."""
        return _read(self._path(corpus), len(corpus))

    def begun(self, corpus: Corpus) -> NDArray[np.float32]:
        """What there is of them, NaN where nothing is: an attempt that ended before its end has left it."""
        found = _read(self._part(corpus), len(corpus))
        return np.full(len(corpus), np.nan, np.float32) if found is None else found

    def keep_begun(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        _write(self._part(corpus), scores)

    def keep(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        _write(self._path(corpus), scores)
        self._part(corpus).unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what nobody will finish."""
        for path in (path for ending in (_PART, _WRITING) for path in self.folder.glob(f"*/*{ending}")):
            with suppress(FileNotFoundError):  # finished or removed by another process
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def _part(self, corpus: Corpus) -> Path:
        return self._path(corpus).with_suffix(_PART)

    def _path(self, corpus: Corpus) -> Path:
        told = self._start.copy()
        for array in (corpus.ids, corpus.trained, corpus.starts):
            told.update(np.ascontiguousarray(array).tobytes())
        key = told.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    try:
        with path.open("rb") as file:
            scores = np.load(file, allow_pickle=False)
        os.utime(path)
    # Another process may remove it at any time; a power cut may leave a part of it, or zeros in its place.
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return scores if scores.shape == (count,) else None


def _write(path: Path, scores: NDArray[np.float32]) -> None:
    """Beside its name first: a process that is killed leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, suffix=_WRITING, delete=False) as file:
        np.save(file, scores)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).rename(path)


@torch.no_grad()
def reference_scores(
    model: nn.Module, corpus: Corpus, machine: Machine, token_budget: int, cache: ReferenceCache
) -> NDArray[np.float32]:
    """The log-probability of each document's labels under `model`, in the corpus's order; kept as they come."""
    was_training = model.training
    model.eval()
    scores, kept_s = cache.begun(corpus), time.monotonic()
    for documents in documents_in_order(corpus, token_budget):
        if not np.isnan(scores[documents]).any():
            continue  # by whole batches: what is scored together must not change
        with machine.autocast():
            sums_S, _ = document_logprobs(model, batch_of(corpus, documents).to(machine.device))
        scores[documents] = sums_S.float().cpu().numpy()
        if time.monotonic() - kept_s >= _KEEP_EVERY_S:
            cache.keep_begun(corpus, scores)
            kept_s = time.monotonic()
    model.train(was_training)
    cache.keep(corpus, scores)
    return scores
