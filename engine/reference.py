"""What the starting weights make of every document: scored once before training, kept in the run directory."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class ReferenceCache:
    """Scores by content: weights, tokens and the type they were computed in. Another process finds them again."""

    run: RunDirectory
    machine: Machine
    setting: str
    """What else the scores depend on."""

    def find(self, corpus: Corpus) -> NDArray[np.float32] | None:
        path = self._path(corpus)
        return np.load(path, allow_pickle=False) if path.exists() else None

    def keep(self, corpus: Corpus, scores: NDArray[np.float32]) -> None:
        """Written beside its name first: a process that is killed leaves no half of it."""
        path = self._path(corpus)
        path.parent.mkdir(exist_ok=True)
        writing = path.with_suffix(".writing")
        with writing.open("wb") as file:
            np.save(file, scores)
            file.flush()
            os.fsync(file.fileno())
        writing.rename(path)

    def _path(self, corpus: Corpus) -> Path:
        told = hashlib.sha256(f"{self.setting} {self.machine.device.type} {self.machine.precision}".encode())
        for folder in filter(None, (self.run.model, self.run.adapter)):
            for path in sorted(folder.glob("*.safetensors")):
                with path.open("rb") as file:
                    told.update(hashlib.file_digest(file, "sha256").digest())
        for array in (corpus.ids, corpus.trained, corpus.starts):
            told.update(np.ascontiguousarray(array).tobytes())
        return self.run.root / "reference" / f"{told.hexdigest()[:32]}.npy"


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
