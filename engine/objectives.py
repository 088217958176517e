"""What each kind of job trains and on what; the loop is the same for all."""

from pathlib import Path
from typing import Any, Protocol

from torch import nn

from engine.data.corpus import Batch, Corpus, Rows
from engine.journal import Journal
from engine.kinds.dpo.objective import DpoObjective
from engine.kinds.eval.objective import EvalObjective
from engine.kinds.pretrain.objective import PretrainObjective
from engine.kinds.sft.objective import SftObjective
from engine.model.load import Subject
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.scored import Scored, Sums


class Objective(Protocol):
    """Rows to batch and a loss as sum and count: the loop divides once, over all that a step holds."""

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        """The model to start from; `folder` is a checkpoint or an export of this job to load instead."""
        ...

    def rows(self, subject: Subject) -> Rows: ...

    def count(self, batch: Batch) -> int:
        """What the loss of a batch is divided by: labels, or pairs."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Scored: ...

    def summary(self, sums: Sums, corpus: Corpus) -> dict[str, float]:
        """The figures of an evaluation, from the sums over all of the corpus."""
        ...


OBJECTIVES: dict[str, Any] = {
    "pretrain": PretrainObjective,
    "sft": SftObjective,
    "dpo": DpoObjective,
    "eval": EvalObjective,
}


def objective_of(run: RunDirectory, spec: Any, journal: Journal) -> Objective:
    return OBJECTIVES[spec.kind](run, spec, journal)
