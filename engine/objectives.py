"""What each kind of job trains and on what; the loop is the same for all."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Batch, Corpus
from engine.data.mixture import Rows
from engine.journal import Journal
from engine.model.load import Subject
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.scored import Scored, Sums


class Objective(Protocol):
    """Rows to batch and a loss as sum and count: the loop divides once, over all that a step holds."""

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        """The model to start from; `folder` is a checkpoint or an export of this job to load instead."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Of the model to start from, with a chat template where the kind needs one."""
        ...

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """What the model's config.json says, or will say."""
        ...

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        """What is trained on and scored, made of the files; no weights are needed for it."""
        ...

    def rows(self, subject: Subject) -> Rows:
        """The documents, and with them what the kind has a model say of them beforehand."""
        ...

    def count(self, batch: Batch) -> int:
        """What the loss of a batch is divided by: labels, or pairs."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Scored: ...

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        """The figures of an evaluation, from the sums over all of the corpus."""
        ...


_OBJECTIVES = {
    "pretrain": "engine.kinds.pretrain.objective:PretrainObjective",
    "sft": "engine.kinds.sft.objective:SftObjective",
    "dpo": "engine.kinds.dpo.objective:DpoObjective",
    "eval": "engine.kinds.eval.objective:EvalObjective",
}
"""A new kind is its folder, a line here and a line in `engine.jobs`."""

OBJECTIVES: dict[str, Any] = {kind: resolve_name(path) for kind, path in _OBJECTIVES.items()}


def objective_of(run: RunDirectory, spec: Any, journal: Journal) -> Objective:
    return OBJECTIVES[spec.kind](run, spec, journal)
