"""What each kind of job trains and on what; the loop is the same for all."""

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from engine.data.corpus import Batch, Rows
from engine.journal import Journal
from engine.kinds.eval.objective import EvalObjective
from engine.kinds.pretrain.objective import PretrainObjective
from engine.kinds.sft.objective import SftObjective
from engine.model.load import Subject
from engine.precision import Machine
from engine.rundir import RunDirectory


class Objective(Protocol):
    """Rows to batch and a loss as (sum, count): the loop divides once, over all that a step holds."""

    def load(self, folder: Path | None, machine: Machine) -> Subject:
        """The model to start from; `folder` is a checkpoint or an export of this job to load instead."""
        ...

    def rows(self, subject: Subject) -> Rows: ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]: ...


OBJECTIVES: dict[str, Any] = {
    "pretrain": PretrainObjective,
    "sft": SftObjective,
    "eval": EvalObjective,
}


def objective_of(run: RunDirectory, spec: Any, journal: Journal) -> Objective:
    return OBJECTIVES[spec.kind](run, spec, journal)
