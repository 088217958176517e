"""Jobs as their memory plans see them, and the changes of their specs that need less memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from engine.data.pairs import PAIR
from engine.forecast.room import Change, Edit, Elsewhere
from engine.kinds.eval.spec import EvalSpec
from engine.parts import AdapterTuning, LoraTuning, QloraTuning, TrainingSpec
from engine.parts.sharing import STAGES
from engine.plan import MemoryPlan, Scoring, Setting, Shape, Workload, Writing
from engine.plan.ranks import least_stage, plan_of_rank, shapes_of_ranks
from engine.plan.weights import beside_gpu, on_disk
from engine.plan.workload import rows_at_once

_SHORTEST = 256
"""Rows are not halved to less than this: too little of them would be left."""


class TrainingCase(NamedTuple):
    """A training job on one rank; `runtime` are the bytes that are not tensors, if past runs show them."""

    spec: TrainingSpec
    shape: Shape
    work: Workload
    setting: Setting
    runtime: int | None
    ranks: int = 1
    zero_stage: int = 0
    elsewhere: Elsewhere | None = None
    """What each rank may hold outside of its device, where that is known."""

    def plan(self) -> MemoryPlan:
        """Return the plan of one rank.

        Raises:
            SpecError: the job cannot be divided in this way.
        """
        plan = plan_of_rank(self.shape, self.work, self.setting, stage=self.zero_stage, ranks=self.ranks)
        return _with_runtime(plan, self.runtime, self.setting)

    def in_room(self, room_bytes: int) -> "TrainingCase":
        """Return the case at the lowest ZeRO stage at which each rank fits, or at the smallest. Raises as `plan`."""

        def needed(stage: int) -> int:
            return self._replace(zero_stage=stage).plan().total

        return self._replace(zero_stage=least_stage(needed, self.setting, ranks=self.ranks, room_bytes=room_bytes))

    def short_elsewhere(self) -> list[str]:
        if self.elsewhere is None:
            return []
        held, free = self.held_elsewhere()._asdict(), self.elsewhere._asdict()
        return [place for place in held if held[place] > free[place]]

    def held_elsewhere(self) -> Elsewhere:
        """Return what a rank holds outside of its device. Raises as `plan`."""
        parts = shapes_of_ranks(self.shape, self.setting)
        return Elsewhere(*(max(held(part, self.setting) for part in parts) for held in (beside_gpu, on_disk)))

    def edits(self) -> Iterator[tuple[Edit, Change]]:
        """Yield the edits; `optimizer_state: kept` allows none that change the trained weights or the optimizer."""
        hyper, fresh = self.setting.hyperparameters, self.spec.optimizer_state == "fresh"
        if hyper.activation_checkpointing != "full":
            yield _hyper("activation_checkpointing", "full")
        if fresh and hyper.optim != "adamw_8bit":
            yield _hyper("optim", "adamw_8bit")
        home = "cpu" if self.setting.device == "cuda" else "disk"
        if hyper.offload_optimizer == "none" or (home == "disk" and hyper.offload_optimizer == "cpu"):
            yield _hyper("offload_optimizer", home)
        if hyper.offload_param == "none" or (home == "disk" and hyper.offload_param == "cpu"):
            yield _hyper("offload_param", home)
        for stage in STAGES if self.ranks > 1 else ():
            if stage > self.zero_stage:
                yield _divided_more(stage)
        yield from self._smaller_batches()
        if fresh:
            yield from self._lighter_tunings()
        for length in _halved(hyper.max_length, _SHORTEST):
            if self.most_tokens(length) < self.work.tokens or length < self.work.document:
                yield _shorter(length)

    def _smaller_batches(self) -> Iterator[tuple[Edit, Change]]:
        """Yield those that leave fewer rows in a micro-batch: with a small file or many ranks, it has few already."""
        least = self.work.rows
        for rows in _halved(self._batch_size(), 1):
            if self.dealt(rows) < least:
                least = self.dealt(rows)
                yield _fewer_rows(rows)

    def dealt(self, rows: int) -> int:
        """Return how many rows a rank takes at once, at most, with micro-batches of `rows` rows."""
        hyper = self.setting.hyperparameters.model_copy(update={"per_device_train_batch_size": rows})
        return rows_at_once(hyper, self.ranks // self.setting.team)

    def most_tokens(self, length: int) -> int:
        """Return the tokens of a micro-batch of rows of this length, at most."""
        return self.dealt(self._batch_size()) * length * (PAIR if self.work.paired else 1)

    def _batch_size(self) -> int:
        rows = self.setting.hyperparameters.per_device_train_batch_size
        assert rows != "auto", "the spec is resolved"
        return rows

    def _lighter_tunings(self) -> Iterator[tuple[Edit, Change]]:
        """Yield adapter tunings, except for mixtures of experts, whose experts adapters do not reach."""
        tuning, dense = self.setting.tuning, self.shape.experts == 1
        if dense and not isinstance(tuning, AdapterTuning):
            yield _tuned("lora", LoraTuning())
        if dense and not isinstance(tuning, QloraTuning):
            given = tuning.model_dump(exclude={"method"}) if isinstance(tuning, AdapterTuning) else {}
            yield _tuned("qlora", QloraTuning.model_validate(given))


class ScoringCase(NamedTuple):
    """An evaluation: its batch that holds most, and the model that scores it."""

    spec: EvalSpec
    shape: Shape
    work: Scoring | Writing
    setting: Setting
    runtime: int | None

    def plan(self) -> MemoryPlan:
        return _with_runtime(self.work.plan(self.shape, self.setting), self.runtime, self.setting)

    def short_elsewhere(self) -> list[str]:
        return []

    def edits(self) -> Iterator[tuple[Edit, Change]]:
        given = self.spec.evaluation
        for rows in _halved(given.per_device_eval_batch_size, 1):
            yield _evaluated("per_device_eval_batch_size", rows)
        written = given.max_new_tokens if isinstance(self.work, Writing) else 0
        for length in _halved(given.max_length, max(_SHORTEST, 2 * written)):
            yield _evaluated("max_length", length)


def _with_runtime(plan: MemoryPlan, runtime: int | None, setting: Setting) -> MemoryPlan:
    """Return the plan with what past runs show; on a GPU they count the allocator's bytes only, without the context."""
    if runtime is None:
        return plan
    return replace(plan, runtime=max(runtime, plan.runtime) if setting.device == "cuda" else runtime)


def _halved(value: int, least: int) -> Iterator[int]:
    """Yield half of the value, a quarter and so on, down to `least`."""
    while value // 2 >= least:
        value //= 2
        yield value


def _hyper(name: str, value: Any) -> tuple[Edit, Change]:
    return Edit(f"hyperparameters.{name}", value), lambda case: _with_hyper(case, name, value)


def _with_hyper(case: TrainingCase, name: str, value: Any) -> TrainingCase:
    hyper = case.setting.hyperparameters.model_copy(update={name: value})
    return case._replace(setting=replace(case.setting, hyperparameters=hyper))


def _tuned(method: str, tuning: Any) -> tuple[Edit, Change]:
    def change(case: TrainingCase) -> TrainingCase:
        return case._replace(setting=replace(case.setting, tuning=tuning))

    return Edit("tuning.method", method), change


def _divided_more(stage: int) -> tuple[Edit, Change]:
    return Edit("resources.parallel.zero_stage", stage), lambda case: case._replace(zero_stage=stage)


def _fewer_rows(rows: int) -> tuple[Edit, Change]:
    """Return the edit to fewer rows in a micro-batch; gradient_accumulation_steps can make up for them."""
    name = "per_device_train_batch_size"

    def change(case: TrainingCase) -> TrainingCase:
        taken, packed = case.dealt(rows), case.setting.hyperparameters.packing
        work = _scaled(case.work, taken / case.work.rows) if packed else _longest(case.work, taken)
        work = replace(work, rows=taken, accumulation=max(2, work.accumulation))
        return _with_hyper(case._replace(work=work), name, rows)

    return Edit(f"hyperparameters.{name}", rows), change


def _shorter(length: int) -> tuple[Edit, Change]:
    def change(case: TrainingCase) -> TrainingCase:
        work = replace(case.work, document=min(case.work.document, length))
        work = _scaled(work, min(1.0, case.most_tokens(length) / work.tokens))
        return _with_hyper(case._replace(work=work), "max_length", length)

    return Edit("hyperparameters.max_length", length), change


def _scaled(work: Workload, factor: float) -> Workload:
    tokens, labels = (max(1, round(count * factor)) for count in (work.tokens, work.labels))
    return replace(work, tokens=max(tokens, work.document), labels=labels)


def _longest(work: Workload, rows: int) -> Workload:
    """Return what `rows` rows of one document or pair each may hold: the longest may be together in a micro-batch."""
    tokens = min(work.tokens, rows * work.document * (PAIR if work.paired else 1))
    return replace(work, tokens=tokens, labels=min(work.labels, tokens))


def _evaluated(name: str, value: int) -> tuple[Edit, Change]:
    def change(case: ScoringCase) -> ScoringCase:
        given = case.spec.evaluation.model_copy(update={name: value})
        work = case.work.within(given.per_device_eval_batch_size, given.max_length)
        return case._replace(work=work, spec=case.spec.model_copy(update={"evaluation": given}))

    return Edit(f"evaluation.{name}", value), change
