"""Jobs as far as their memory is concerned, and what of their specs may be changed to need less."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from engine.forecast.room import Change, Edit
from engine.kinds.eval.spec import EvalSettings
from engine.parts import AdapterTuning, LoraTuning, QloraTuning
from engine.parts.sharing import STAGES
from engine.plan import MemoryPlan, Scoring, Setting, Shape, Workload, Writing
from engine.plan.ranks import least_stage, plan_of_rank

_SHORTEST = 256
"""Rows are not halved below this: too little of them would be left."""


class TrainingCase(NamedTuple):
    """A micro-batch that a rank trains on; `runtime` is what is not tensors, where runs on this machine have told."""

    shape: Shape
    work: Workload
    setting: Setting
    runtime: int | None
    ranks: int = 1
    zero_stage: int = 0

    def plan(self) -> MemoryPlan:
        """Of one rank.

        Raises:
            SpecError: it cannot be divided so far.
        """
        plan = plan_of_rank(self.shape, self.work, self.setting, stage=self.zero_stage, ranks=self.ranks)
        return _with_runtime(plan, self.runtime)

    def in_room(self, room_bytes: int) -> "TrainingCase":
        """Divided as little as lets each rank fit, or as much as it can be. Raises as `plan`."""

        def needed(stage: int) -> int:
            return self._replace(zero_stage=stage).plan().total

        return self._replace(zero_stage=least_stage(needed, self.setting, ranks=self.ranks, room_bytes=room_bytes))

    def edits(self) -> Iterator[tuple[Edit, Change]]:
        hyper = self.setting.hyperparameters
        assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
        if hyper.activation_checkpointing != "full":
            yield _hyper("activation_checkpointing", "full")
        if hyper.optim != "adamw_8bit":
            yield _hyper("optim", "adamw_8bit")
        home = "cpu" if self.setting.device == "cuda" else "disk"
        if hyper.offload_optimizer == "none" or (home == "disk" and hyper.offload_optimizer == "cpu"):
            yield _hyper("offload_optimizer", home)
        if hyper.offload_param == "none" or (home == "disk" and hyper.offload_param == "cpu"):
            yield _hyper("offload_param", home)
        for stage in STAGES if self.ranks > 1 else ():
            if stage > self.zero_stage:
                yield _divided_more(stage)
        for rows in _halved(hyper.per_device_train_batch_size, 1):
            yield _fewer_rows(rows, hyper.per_device_train_batch_size)
        yield from self._lighter_tunings()
        for length in _halved(hyper.max_length, _SHORTEST):
            yield _shorter(length, hyper.max_length)

    def _lighter_tunings(self) -> Iterator[tuple[Edit, Change]]:
        """Adapters do not reach a mixture's experts."""
        tuning, dense = self.setting.tuning, self.shape.experts == 1
        if dense and not isinstance(tuning, AdapterTuning):
            yield _tuned("lora", LoraTuning())
        if dense and not isinstance(tuning, QloraTuning):
            given = tuning.model_dump(exclude={"method"}) if isinstance(tuning, AdapterTuning) else {}
            yield _tuned("qlora", QloraTuning.model_validate(given))


class ScoringCase(NamedTuple):
    """The batch of an evaluation that holds most, and the model that it goes through."""

    shape: Shape
    work: Scoring | Writing
    setting: Setting
    evaluation: EvalSettings
    runtime: int | None

    def plan(self) -> MemoryPlan:
        return _with_runtime(self.work.plan(self.shape, self.setting), self.runtime)

    def edits(self) -> Iterator[tuple[Edit, Change]]:
        given = self.evaluation
        for rows in _halved(given.per_device_eval_batch_size, 1):
            edit = Edit("evaluation.per_device_eval_batch_size", rows)
            yield edit, _less_of_a_batch(rows / given.per_device_eval_batch_size, given.max_length)
        written = given.max_new_tokens if isinstance(self.work, Writing) else 0
        for length in _halved(given.max_length, max(_SHORTEST, 2 * written)):
            yield Edit("evaluation.max_length", length), _less_of_a_batch(length / given.max_length, length)


def _with_runtime(plan: MemoryPlan, runtime: int | None) -> MemoryPlan:
    return plan if runtime is None else replace(plan, runtime=runtime)


def _halved(value: int, least: int) -> Iterator[int]:
    """Half of it, a quarter, and so on, as long as what is halved is over `least`."""
    while value > least:
        value //= 2
        yield value


def _hyper(name: str, value: Any) -> tuple[Edit, Change]:
    def change(case: TrainingCase) -> TrainingCase:
        hyper = case.setting.hyperparameters.model_copy(update={name: value})
        return case._replace(setting=replace(case.setting, hyperparameters=hyper))

    return Edit(f"hyperparameters.{name}", value), change


def _tuned(method: str, tuning: Any) -> tuple[Edit, Change]:
    def change(case: TrainingCase) -> TrainingCase:
        return case._replace(setting=replace(case.setting, tuning=tuning))

    return Edit("tuning.method", method), change


def _divided_more(stage: int) -> tuple[Edit, Change]:
    return Edit("resources.parallel.zero_stage", stage), lambda case: case._replace(zero_stage=stage)


def _fewer_rows(rows: int, now: int) -> tuple[Edit, Change]:
    """What a micro-batch loses, gradient_accumulation_steps can make up for."""

    def change(case: TrainingCase) -> TrainingCase:
        return case._replace(work=_scaled(case.work, rows / now, accumulation=max(2, case.work.accumulation)))

    return Edit("hyperparameters.per_device_train_batch_size", rows), change


def _shorter(length: int, now: int) -> tuple[Edit, Change]:
    def change(case: TrainingCase) -> TrainingCase:
        work = _scaled(case.work, length / now, accumulation=case.work.accumulation)
        return case._replace(work=replace(work, document=min(work.document, length)))

    return Edit("hyperparameters.max_length", length), change


def _scaled(work: Workload, factor: float, *, accumulation: int) -> Workload:
    tokens, labels = (max(1, round(count * factor)) for count in (work.tokens, work.labels))
    return replace(work, tokens=max(tokens, work.document), labels=labels, accumulation=accumulation)


def _less_of_a_batch(factor: float, length: int) -> Change:
    def change(case: ScoringCase) -> ScoringCase:
        return case._replace(work=case.work.scaled(factor, document=length))

    return change
