"""The session of a run: the loaded model, rows and ranks that the training loop or the scorer works with."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from engine import checkpoint
from engine.batch_loss import BatchLoss
from engine.continuation import warn_of_unfit_rate, with_adapter_shape
from engine.data.corpus import Batch, Corpus
from engine.data.mixture import Mixture
from engine.data.rows import Rows
from engine.data.supply import Supply
from engine.data.training import report_cut_rows
from engine.dist.ranks import Ranks
from engine.effort import setting_of
from engine.errors import SpecError
from engine.evaluate import evaluate
from engine.jobs import AnySpec, spec_of
from engine.journal import Journal
from engine.kinds.eval.spec import EvalSpec
from engine.measure import matmul_tflops
from engine.model import flash, kernels, llama
from engine.model.dropout import place_dropout
from engine.model.forward import decoder_of, head_width_of
from engine.model.load import Subject
from engine.model.quantize import size_of
from engine.objectives import Objective, TrainingObjective, objective_of
from engine.parts import TrainingSpec
from engine.plan.weights import immovable
from engine.plan.workload import rows_at_once
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.stop import SharedStop, StopFlag


class Division(NamedTuple):
    """The division of a model and its rows among the ranks (engine.dist.choice); at first, each has all of the model."""

    replicas: Ranks
    """The ranks that rows are dealt out among; ranks that work on the same rows count as one."""
    team: Ranks = Ranks()
    """The ranks that hold the weights together, so that none can compute a pass alone."""
    score: Callable[[Batch], BatchLoss] | None = None
    """Computes the loss of a batch in the place of `Session.plain_score`, where the model is divided."""
    zero_stage: int = 0


@dataclass
class Session:
    """A loaded job. `start` is the checkpoint that it resumes from, if any."""

    run: RunDirectory
    spec: AnySpec
    journal: Journal
    stop: StopFlag
    ranks: Ranks
    machine: Machine
    objective: Objective
    start: Path | None
    subject: Subject
    rows: Rows

    def __post_init__(self) -> None:
        self.division = Division(self.ranks)
        self.parameters = self.subject.parameters()
        self.trainable_parameters = sum(size_of(p) for _, p in self.subject.trainable())
        """Both counted in the whole model, before ranks divide it."""

    @classmethod
    def open(cls, run: RunDirectory, journal: Journal, stop: StopFlag) -> "Session":
        """Load the job in a run directory: its spec, model and rows.

        Raises:
            EngineError: the job cannot be carried out.
        """
        asked = spec_of(run)
        spec = with_adapter_shape(run, asked)
        warn_of_unfit_rate(asked, spec, journal)
        given = spec.evaluation if isinstance(spec, EvalSpec) else spec.hyperparameters
        machine = Machine.choose(spec.resources.device, given.precision)
        ranks = Ranks.here()
        ranks.connect(machine.device, run.ranks / "meeting", spec.resources.ddp_timeout)
        if isinstance(spec, TrainingSpec) and ranks.count > 1:
            stop = SharedStop(stop, ranks.any)
        checkpoint.seed_everything(spec.seed)
        if isinstance(spec, TrainingSpec) and (refusal := immovable(setting_of(spec, machine))):
            raise refusal
        objective = objective_of(run, asked, journal)  # its load refuses what contradicts the adapter
        start = checkpoint.newest(run.checkpoints)
        _check_alike(ranks, device=machine.device.type, precision=machine.precision, start=start and start.name)
        subject = objective.load(start, machine)
        with ranks.leader_first():
            rows = objective.rows(subject)
        report_cut_rows(rows, journal)
        return cls(run, spec, journal, stop, ranks, machine, objective, start, subject, rows)

    def report_start(self, *, total_steps: int, start_step: int, eval_rows: int | None = None) -> float:
        """Write the `started` event and return the measured matmul rate of all ranks in TFLOP/s."""
        rate = self.ranks.totals([matmul_tflops(self.machine)])[0]
        self._warn_of_missing_kernels()
        self.journal.write(
            "started",
            device=_device_name(self.machine, self.ranks),
            precision=self.machine.precision,
            parameters=self.parameters,
            trainable_parameters=self.trainable_parameters,
            train_rows=_row_count(self.rows.train),
            eval_rows=_row_count(self.rows.validation) if eval_rows is None else eval_rows,
            total_steps=total_steps,
            start_step=start_step,
            matmul_tflops=rate,
            attention=flash.path_on(self.machine.device, self.machine.compute_dtype, head_width_of(self.subject.model)),
        )
        return rate

    def _warn_of_missing_kernels(self) -> None:
        reason = kernels.missing() if llama.knows(decoder_of(self.subject.model)) else None
        if reason is not None:
            self.journal.log(
                "warn", "no_kernels", f"layers are computed by transformers' own modules, which is slower: {reason}"
            )

    def loss(self, batch: Batch) -> BatchLoss:
        """Return sum and count of a batch's loss, computed in the run's precision by all ranks that share the model."""
        place_dropout(self.subject.model, self.spec.seed, batch)
        batch, score = batch.to(self.machine.device), self.division.score
        return self.plain_score(self.subject.model, batch) if score is None else score(batch)

    def plain_score(self, model: nn.Module, batch: Batch) -> BatchLoss:
        """Return the loss of a batch by a model of which this rank has all that it needs."""
        with self.machine.autocast():
            return self.training_objective.loss(model, batch)

    @property
    def training_objective(self) -> TrainingObjective:
        assert isinstance(self.objective, TrainingObjective), "the job trains"
        return self.objective

    @property
    def replicas(self) -> Ranks:
        return self.division.replicas

    @property
    def in_parts(self) -> bool:
        """Whether several ranks score a row together, waiting for one another within a pass."""
        return self.division.team.count > 1 or self.replicas.count < self.ranks.count

    def divide(self, **changes: Any) -> None:
        """Record how the ranks share the model from now on: fields of `division`."""
        self.division = self.division._replace(**changes)

    @property
    def is_loaded(self) -> bool:
        """Whether there is a model: not between `drop_subject` and the load that follows it."""
        return next(self.subject.model.parameters(), None) is not None

    def drop_subject(self) -> None:
        """Free the weights. The subject that takes their place is loaded by each rank in full."""
        self.divide(replicas=self.ranks, team=Ranks(), score=None)
        self.subject = Subject(torch.nn.Module(), self.subject.tokenizer, self.subject.layout)
        gc.collect()  # weights in 4 bits and their layers hold each other

    def goes_on(self) -> bool:
        """Go on with the ranks of the first machine alone, on whose disk the results are; False if this is none of them."""
        ranks = self.ranks.of_first_machine()
        if ranks is None:
            return False
        if ranks is not self.ranks and isinstance(self.stop, SharedStop):
            self.stop = self.stop.among(ranks.any)
        self.ranks = ranks
        self.divide(replicas=ranks)
        return True

    @property
    def token_budget(self) -> int:
        """The most tokens that a rank trains on at once: passes without gradients take no more, to fit as well."""
        assert isinstance(self.spec, TrainingSpec), "an evaluation scores by itself"
        hyper, replicas = self.spec.hyperparameters, max(self.spec.resources.replicas, self.replicas.count)
        return hyper.max_length * rows_at_once(hyper, replicas)

    def evaluate(self, corpus: Corpus) -> dict[str, float]:
        budget = self.token_budget * corpus.together
        sums = evaluate(self.subject.model, self.loss, corpus, self.stop, self.replicas, token_budget=budget)
        return self.training_objective.summary(sums, corpus)


def _check_alike(ranks: Ranks, **settings: str | None) -> None:
    """Raise SpecError if the machines of a run would train in different ways."""
    by_rank = ranks.gather(settings)
    for name, own in by_rank[0].items():
        for rank, other in enumerate(each[name] for each in by_rank):
            if other != own:
                raise SpecError(
                    "machines_differ",
                    f"the {name} of rank 0 is {own}, that of rank {rank} is {other}",
                    "Set resources.device and hyperparameters.precision, or resources.labels, so that they agree.",
                )


def _row_count(rows: Supply | Mixture | None) -> int:
    return 0 if rows is None else rows.row_count()


def _device_name(machine: Machine, ranks: Ranks) -> str:
    each = "" if ranks.count == 1 else f"{ranks.count} x "
    if machine.device.type == "cuda":
        return f"{each}cuda ({torch.cuda.get_device_name()})"
    return f"{each}cpu ({torch.get_num_threads()} threads)"
