"""The kinds of job as the engine sees them: the rows each reads, and the loss that those which train make small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import nn
from transformers import PreTrainedTokenizerFast

from engine.batch_loss import BatchLoss, Sums
from engine.data.corpus import Batch, Corpus
from engine.data.rows import Rows
from engine.journal import Journal
from engine.kinds.dpo.objective import DpoObjective
from engine.kinds.eval.objective import EvalObjective
from engine.kinds.pretrain.objective import PretrainObjective
from engine.kinds.sft.objective import SftObjective
from engine.model.load import Subject
from engine.precision import Machine
from engine.rundir import RunDirectory


class Objective(Protocol):
    """The model and the rows of a job of any kind."""

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        """Load the model to start from, or the checkpoint or export of this job in `folder`."""
        ...

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer of the model to start from, with a chat template where the kind needs one."""
        ...

    def config(self, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
        """Return the model's config.json, which a new model does not have yet."""
        ...

    def documents(self, tokenizer: PreTrainedTokenizerFast) -> Rows:
        """Make the files into documents to train on and to score; no weights are needed."""
        ...

    def rows(self, subject: Subject) -> Rows:
        """Return the documents with all that a model computes of them before the first step, such as reference scores."""
        ...


@runtime_checkable
class TrainingObjective(Objective, Protocol):
    """A kind that trains: a loss as sum and count, which the loop divides once, over all that a step holds."""

    def count(self, batch: Batch) -> int:
        """Return what the loss of a batch is divided by: its labels, or its pairs."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> BatchLoss: ...

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        """Return the figures of an evaluation, from the sums over all of the corpus."""
        ...


Make: TypeAlias = Callable[[RunDirectory, Any, Journal], Objective]
MakeTraining: TypeAlias = Callable[[RunDirectory, Any, Journal], TrainingObjective]

_TRAINING: dict[str, MakeTraining] = {
    "pretrain": PretrainObjective,
    "sft": SftObjective,
    "dpo": DpoObjective,
}
OBJECTIVES: dict[str, Make] = {**_TRAINING, "eval": EvalObjective}
"""A new kind is its folder, a line in `engine.jobs`, and here an import and a line."""


def objective_of(run: RunDirectory, spec: Any, journal: Journal) -> Objective:
    return OBJECTIVES[spec.kind](run, spec, journal)
