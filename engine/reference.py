"""What the starting weights make of every document: scored once, and found again by content."""

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

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
        path = self._path(corpus)
        try:
            scores = np.load(path, allow_pickle=False)
            os.utime(path)
        except FileNotFoundError:
            return None
        return scores

    def keep(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        """Written beside its name first: a process that is killed leaves no half of it."""
        path = self._path(corpus)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, suffix=".writing", delete=False) as file:
            np.save(file, scores)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).rename(path)

    def _path(self, corpus: Corpus) -> Path:
        told = self._start.copy()
        for array in (corpus.ids, corpus.trained, corpus.starts):
            told.update(np.ascontiguousarray(array).tobytes())
        key = told.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"


@torch.no_grad()
def reference_scores(model: nn.Module, corpus: Corpus, machine: Machine, token_budget: int) -> NDArray[np.float32]:
    """The log-probability of each document's labels under `model`, in the corpus's order."""
    was_training = model.training
    model.eval()
    found: list[Any] = []
    order: list[int] = []
    for documents in documents_in_order(corpus, token_budget):
        with machine.autocast():
            sums_S, _ = document_logprobs(model, batch_of(corpus, documents).to(machine.device))
        found.append(sums_S.float().cpu().numpy())
        order += documents
    model.train(was_training)
    scores = np.empty(len(corpus), np.float32)
    scores[order] = np.concatenate(found)
    return scores
