"""What a run has to do: counted before it runs from the rows it will take, and after it from those it took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from engine.data.corpus import Corpus
from engine.data.lengths import scoring
from engine.data.mixture import Rows
from engine.model.adapters import tuning_of
from engine.model.config import config_of
from engine.parts import FullTuning, Hyperparameters, Samples, TrainingSpec
from engine.passes import Passes
from engine.plan import Counts, Effort, Efforts, MemoryPlan, Setting, Shape, Variety, Work, Workload, new_shapes
from engine.plan.weights import loaded_weights, trained_weights, weights
from engine.precision import Machine
from engine.schedule import times_due

_SAVED_BYTES = 12
"""Of a weight that learns: itself and its two moments."""
_LOADS = 2
"""At the start, and what was exported again."""
_CHARACTERS = 4
"""Of a prompt in a token, about."""
_AT_EXPORT = 2
"""Evaluations: of what is written, and of what is read again."""


class Passed(NamedTuple):
    """What goes through the model: in `steps` of training, at each evaluation, and to score a reference.

    That is scored before the first step or, `along`, in each of them and in the evaluations.
    """

    steps: int
    trained: Counts
    variety: Variety
    evaluated: Counts
    referred: Counts
    along: bool
    evaluations: int
    saves: int

    @classmethod
    def of_job(cls, rows: Rows, spec: TrainingSpec, steps: int, trained: Counts, variety: Variety) -> Self:
        rows_at_once = spec.hyperparameters.per_device_train_batch_size
        assert rows_at_once != "auto", "the spec is resolved"
        together = 1 if rows.train is None else rows.train.together
        budget = spec.hyperparameters.max_length * together * rows_at_once
        evaluated, referred = scoring(rows.validation, budget), Counts()
        if rows.reference == "once":
            assert isinstance(rows.train, Corpus), "what is scored once is held in memory"
            referred = scoring(rows.train, budget).plus(evaluated)
        along = rows.reference == "each_step"
        if along:
            referred, evaluated = trained, evaluated.times(2)
        rules = spec.checkpoints
        evaluations, saves = (times_due(every, steps) for every in (rules.eval_steps, rules.save_steps))
        return cls(steps, trained, variety, evaluated, referred, along, evaluations, saves)


def workload_of(spec: TrainingSpec, largest: Counts, longest: int, rows: Rows, ranks: int) -> Workload:
    """A micro-batch, the one that holds most."""
    paired = rows.train is not None and rows.train.together > 1
    passes = passes_of_rank(spec.hyperparameters, ranks)
    return Workload(largest.tokens, largest.labels, longest, passes, paired=paired)


def rows_of_step(hyper: Hyperparameters) -> int:
    """Of all ranks together."""
    assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
    assert hyper.gradient_accumulation_steps != "auto", "the spec is resolved"
    return hyper.per_device_train_batch_size * hyper.gradient_accumulation_steps


def passes_of_rank(hyper: Hyperparameters, ranks: int) -> int:
    """Micro-batches of a step that each takes, at most."""
    assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
    return -(-rows_of_step(hyper) // (hyper.per_device_train_batch_size * ranks))


def setting_of(spec: TrainingSpec, machine: Machine) -> Setting:
    """How a job computes on this machine."""
    device = "cuda" if machine.device.type == "cuda" else "cpu"
    tuning, parallel = getattr(spec, "tuning", FullTuning()), spec.resources.parallel
    frozen = getattr(spec, "frozen_models", 0)
    return Setting(device, machine.precision, tuning, spec.hyperparameters, **parallel.sizes, frozen=frozen)


class Model(NamedTuple):
    """A model as a job trains it."""

    shape: Shape
    setting: Setting

    @classmethod
    def of(cls, config: Mapping[str, Any], spec: TrainingSpec, machine: Machine) -> "Model":
        """From its config.json.

        Raises:
            SpecError: it is of a family that nothing is planned for.
        """
        return cls(Shape.of(config), setting_of(spec, machine))

    @classmethod
    def loaded(cls, base: Path, adapter: Path | None, machine: Machine) -> "Model":
        """As an evaluation loads it; of `setting.tuning` an adapter's sizes count and nothing learns.

        Raises:
            SpecError: as above, or the adapter is none that can be loaded.
        """
        tuning = FullTuning() if adapter is None else tuning_of(adapter)
        device = "cuda" if machine.device.type == "cuda" else "cpu"
        shape = Shape.of(config_of(base).to_dict())
        return cls(shape, Setting(device, machine.precision, tuning, Hyperparameters()))

    def memory(self, passes: Passes) -> MemoryPlan:
        """Raises SpecError: no plan is made for its kind of adapter."""
        return passes.batch.plan(self.shape, self.setting)

    def scoring(self, passes: Passes) -> Efforts:
        """Of what goes through it in an evaluation."""
        loaded = Effort(written=float(loaded_weights(self.shape, self.setting)))
        return Efforts(Effort(), self._scored(passes.all), loaded)

    def efforts(self, spec: TrainingSpec, passed: Passed) -> Efforts:
        """Of a whole run, with its evaluations, checkpoints and export."""
        shape, setting = self
        work, trained = Work.of(shape, setting), trained_weights(shape, setting)
        passes = float(shape.layers * passed.trained.batches)
        steps = Effort(
            flops=work.training(passed.trained) + work.again(passed.trained, setting.checkpointing),
            passes=passes,
            by_modules=0.0 if setting.by_hand(shape) or setting.device == "cuda" else passes,
            updates=float(passed.steps) * trained,
            shapes=float(new_shapes(shape, setting, passed.variety)),
        )
        referred = self._scored(passed.referred)
        around = self._scored(passed.evaluated.times(_AT_EXPORT))
        written = Effort(written=float((passed.saves + 1) * _SAVED_BYTES * trained + _LOADS * weights(shape, setting)))
        return Efforts(
            steps=steps.plus(referred) if passed.along else steps,
            scoring=self._scored(passed.evaluated.times(passed.evaluations)),
            around=around.plus(written) if passed.along else around.plus(written).plus(referred),
            samples=self._answers(spec.samples, passed.evaluations),
        )

    def _answers(self, asked: Samples | None, times: int) -> Effort:
        """To the last token that they may have: how soon they end is learnt as if they were written faster."""
        if asked is None:
            return Effort()
        rows, read = len(asked.prompts), sum(map(len, asked.prompts)) // _CHARACTERS
        written = rows * asked.max_new_tokens
        counts = Counts(asked.max_new_tokens, read + written, written, float(read + written) ** 2 / rows)
        return self._scored(counts.times(times * (2 if asked.temperature else 1)))

    def _scored(self, counts: Counts) -> Effort:
        """Forward passes alone."""
        flops = Work.of(*self).scoring(counts)
        return Effort(flops=flops, passes=self.shape.layers * counts.batches / 3)
