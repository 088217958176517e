"""The work of a run, counted before it from the rows that it will take, and after it from those that it took."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from engine.data.corpus import Corpus
from engine.data.lengths import scoring
from engine.data.rows import Rows
from engine.model.adapters import tuning_of
from engine.model.config import config_of
from engine.parts import FullTuning, Hyperparameters, Samples, TrainingSpec
from engine.passes import Passes
from engine.plan import Counts, Effort, Efforts, MemoryPlan, Setting, Shape, Variety, Work, Workload, new_shapes
from engine.plan.weights import loaded_weights, trained_weights, weights
from engine.plan.workload import rows_at_once
from engine.precision import Machine
from engine.schedule import times_due

_SAVED_BYTES = 12
"""Bytes saved for a trained weight: itself and its two moments."""
_LOADS = 2
"""The model is loaded at the start, and once more from the export."""
_CHARACTERS = 4
"""Characters of a prompt per token, approximately."""
_AT_EXPORT = 2
"""Evaluations at the end: of the model that is written, and of the one that is loaded again."""


class Passed(NamedTuple):
    """The tokens that go through the model: in `steps` of training, at each evaluation, and to score a reference.

    The reference is scored before the first step or, with `along`, in each step and evaluation.
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
        together = 1 if rows.train is None else rows.train.together
        at_once = rows_at_once(spec.hyperparameters, spec.resources.replicas)
        budget = spec.hyperparameters.max_length * together * at_once
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
    """Return the workload of the largest micro-batch."""
    paired = rows.train is not None and rows.train.together > 1
    passes = passes_of_rank(spec.hyperparameters, ranks)
    return Workload(largest.tokens, largest.labels, longest, passes, paired=paired)


def rows_of_step(hyper: Hyperparameters) -> int:
    """Return the rows of a step, over all ranks."""
    assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
    assert hyper.gradient_accumulation_steps != "auto", "the spec is resolved"
    return hyper.per_device_train_batch_size * hyper.gradient_accumulation_steps


def passes_of_rank(hyper: Hyperparameters, ranks: int) -> int:
    """Return the most micro-batches of a step that a rank takes."""
    assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
    return -(-rows_of_step(hyper) // (hyper.per_device_train_batch_size * ranks))


def setting_of(spec: TrainingSpec, machine: Machine) -> Setting:
    """Return how a job computes on this machine, as the plan needs it."""
    device = "cuda" if machine.device.type == "cuda" else "cpu"
    tuning, parallel = getattr(spec, "tuning", FullTuning()), spec.resources.parallel
    frozen = getattr(spec, "frozen_models", 0)
    return Setting(device, machine.precision, tuning, spec.hyperparameters, **parallel.sizes, frozen=frozen)


class Model(NamedTuple):
    """A model as a job trains or scores it."""

    shape: Shape
    setting: Setting

    @classmethod
    def of(cls, config: Mapping[str, Any], spec: TrainingSpec, machine: Machine) -> "Model":
        """Make it from the model's config.json.

        Raises:
            SpecError: there are no plans for its family.
        """
        return cls(Shape.of(config), setting_of(spec, machine))

    @classmethod
    def loaded(cls, base: Path, adapter: Path | None, machine: Machine) -> "Model":
        """Make it as an evaluation loads it: nothing is trained, and of `setting.tuning` only the adapter's sizes matter.

        Raises:
            SpecError: there are no plans for its family, or the adapter cannot be loaded.
        """
        tuning = FullTuning() if adapter is None else tuning_of(adapter)
        device = "cuda" if machine.device.type == "cuda" else "cpu"
        shape = Shape.of(config_of(base).to_dict())
        return cls(shape, Setting(device, machine.precision, tuning, Hyperparameters()))

    def memory(self, passes: Passes) -> MemoryPlan:
        """Return the memory plan of an evaluation. Raises SpecError if there are no plans for its kind of adapter."""
        return passes.batch.plan(self.shape, self.setting)

    def scoring(self, passes: Passes) -> Efforts:
        """Return the effort of an evaluation."""
        loaded = Effort(written=float(loaded_weights(self.shape, self.setting)))
        return Efforts(Effort(), self._scored(passes.all), loaded)

    def efforts(self, spec: TrainingSpec, passed: Passed) -> Efforts:
        """Return the effort of a whole run, with its evaluations, checkpoints and export."""
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
        """Return the effort of writing samples of full length; if they usually end early, they count as written faster."""
        if asked is None:
            return Effort()
        rows, read = len(asked.prompts), sum(map(len, asked.prompts)) // _CHARACTERS
        written = rows * asked.max_new_tokens
        counts = Counts(asked.max_new_tokens, read + written, written, float(read + written) ** 2 / rows)
        return self._scored(counts.times(times * (2 if asked.temperature else 1)))

    def _scored(self, counts: Counts) -> Effort:
        """Return the effort of forward passes."""
        flops = Work.of(*self).scoring(counts)
        return Effort(flops=flops, passes=self.shape.layers * counts.batches / 3)
