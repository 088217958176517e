"""What a run works with: opened once, handed to the loop or to the scorer."""

import gc
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from engine import checkpoint
from engine.continuation import onward, tell_rate
from engine.data.corpus import Batch, Corpus
from engine.data.mixture import Mixture, Rows, Supply
from engine.data.training import tell_losses
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
from engine.objectives import Objective, objective_of
from engine.parts import TrainingSpec
from engine.plan.weights import immovable
from engine.precision import Machine
from engine.rundir import RunDirectory
from engine.scored import Scored
from engine.stop import SharedStop, StopFlag


@dataclass
class Session:
    """A loaded job. `start` is the checkpoint that it goes on from, if any."""

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

    zero_stage: int = 0
    """How far the ranks divide what they hold (engine.dist.choice)."""
    team: Ranks = field(default_factory=Ranks)
    """Those that hold the weights together, so that none can compute a pass by itself."""

    def __post_init__(self) -> None:
        self.score = self._score
        self.replicas = self.ranks
        """Those that rows are dealt out among; ranks that work on the same rows are one of them."""
        self.parameters = self.subject.parameters()
        self.trainable_parameters = sum(size_of(p) for _, p in self.subject.trainable())
        """Of the whole model, of which a rank may have a part from there on."""

    @classmethod
    def open(cls, run: RunDirectory, journal: Journal, stop: StopFlag) -> "Session":
        asked = spec_of(run)
        spec = onward(run, asked)
        tell_rate(asked, spec, journal)
        given = spec.evaluation if isinstance(spec, EvalSpec) else spec.hyperparameters
        machine = Machine.choose(spec.resources.device, given.precision)
        ranks = Ranks.here()
        ranks.connect(machine.device, run.ranks / "meeting", spec.resources.ddp_timeout)
        if isinstance(spec, TrainingSpec) and ranks.count > 1:
            stop = SharedStop(stop, ranks.any)
        checkpoint.seed_everything(spec.seed)
        if isinstance(spec, TrainingSpec) and (refusal := immovable(setting_of(spec, machine))):
            raise refusal
        objective = objective_of(run, asked, journal)  # what is asked against the adapter is refused as it is loaded
        start = checkpoint.newest(run.checkpoints)
        _check_alike(ranks, device=machine.device.type, precision=machine.precision, start=start and start.name)
        subject = objective.load(start, machine)
        with ranks.leader_first():
            rows = objective.rows(subject)
        tell_losses(rows, journal)
        return cls(run, spec, journal, stop, ranks, machine, objective, start, subject, rows)

    def report_start(self, *, total_steps: int, start_step: int, eval_rows: int | None = None) -> float:
        """Write the `started` event; returns the measured matmul rate of all ranks in TFLOP/s."""
        rate = self.ranks.totals([matmul_tflops(self.machine)])[0]
        self._say_what_is_missing()
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

    def _say_what_is_missing(self) -> None:
        reason = kernels.missing() if llama.knows(decoder_of(self.subject.model)) else None
        if reason is not None:
            self.journal.log(
                "warn", "no_kernels", f"layers are computed by transformers' own modules, which is slower: {reason}"
            )

    def loss(self, batch: Batch) -> Scored:
        """Sum and count of a batch under the run's precision."""
        place_dropout(self.subject.model, self.spec.seed, batch)
        return self.score(batch.to(self.machine.device))

    def _score(self, batch: Batch) -> Scored:
        """A strategy that divides the model puts its own in the place of this."""
        return self.plain_score(self.subject.model, batch)

    def plain_score(self, model: nn.Module, batch: Batch) -> Scored:
        with self.machine.autocast():
            return self.objective.loss(model, batch)

    @property
    def in_parts(self) -> bool:
        """Whether several ranks score a row together, and wait for one another in the midst of it."""
        return self.team.count > 1 or self.replicas.count < self.ranks.count

    def drop_subject(self) -> None:
        """Free the weights; another subject takes their place, each rank with all of it."""
        self.score, self.replicas, self.team = self._score, self.ranks, Ranks()
        self.subject = Subject(torch.nn.Module(), self.subject.tokenizer, self.subject.layout)
        gc.collect()  # weights in 4 bits and their layers hold each other

    def goes_on(self) -> bool:
        """Whether this process works on what lies on the first machine's disk; those that do go on among themselves."""
        ranks = self.ranks.of_first_machine()
        if ranks is None:
            return False
        if ranks is not self.ranks and isinstance(self.stop, SharedStop):
            self.stop = self.stop.among(ranks.any)
        self.ranks = self.replicas = ranks
        return True

    def evaluate(self, corpus: Corpus) -> dict[str, float]:
        assert isinstance(self.spec, TrainingSpec), "an evaluation scores by itself"
        batch_size = self.spec.hyperparameters.per_device_train_batch_size
        assert batch_size != "auto", "the spec is resolved"
        budget = self.spec.hyperparameters.max_length * corpus.together * batch_size
        sums = evaluate(self.subject.model, self.loss, corpus, self.stop, self.replicas, token_budget=budget)
        return self.objective.summary(sums, corpus)


def _check_alike(ranks: Ranks, **told: str | None) -> None:
    """Raises SpecError where the machines of a run would each train in another way."""
    all_told = ranks.gather(told)
    for name, own in all_told[0].items():
        for rank, other in enumerate(each[name] for each in all_told):
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
