"""Whether a job's memory fits this machine, and what to change where it does not."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch

from engine.parts import AdapterTuning, LoraTuning, QloraTuning, TrainingSpec
from engine.plan import MemoryPlan, Setting, Shape, Workload, plan_memory
from engine.precision import Machine

_MOST_EDITS = 3
_MOST_WAYS = 3
_SPARE = 0.9


class Edit(NamedTuple):
    """A change of the spec: the path of a field, and its new value."""

    path: str
    value: Any


class Mend(NamedTuple):
    """Edits, and the memory that is needed with them."""

    edits: tuple[Edit, ...]
    total: int


class Case(NamedTuple):
    """What memory depends on; `runtime` is what of it is not tensors, where runs on this machine have told."""

    shape: Shape
    work: Workload
    setting: Setting
    runtime: int | None

    def plan(self) -> MemoryPlan:
        made = plan_memory(self.shape, self.work, self.setting)
        return made if self.runtime is None else replace(made, runtime=self.runtime)


def room_bytes(machine: Machine) -> int:
    """What a new process may hold."""
    if machine.device.type == "cuda":
        return torch.cuda.mem_get_info(machine.device)[0]
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


def mend_of(case: Case, spec: TrainingSpec, room: int) -> Mend | None:
    """The fewest edits, three at most, with which the job fits; of as many, those that change the result least.

    None where no three edits are enough.
    """
    return next(_mends(case, spec, room), None)


def ways_out(case: Case, spec: TrainingSpec, room: int) -> list[Mend]:
    """Three mends at most, each enough by itself and of other fields than the ones before, in the same order."""
    ways: dict[frozenset[str], Mend] = {}
    for mend in _mends(case, spec, room):
        fields = frozenset(edit.path for edit in mend.edits)
        if not any(known <= fields for known in ways):
            ways[fields] = mend
        if len(ways) == _MOST_WAYS:
            break
    return list(ways.values())


def enough_less(case: Case) -> int:
    """Bytes to do with where what the plan asks for was not there: it said less than the run took, or others hold a part."""
    return round(_SPARE * case.plan().total)


def told(ways: list[Mend]) -> str:
    """The edits of each, and what it comes to."""
    edits = [" and ".join(f"{edit.path}={edit.value}" for edit in way.edits) for way in ways]
    return "; ".join(f"{edit} ({way.total / 2**30:.2f} GiB)" for edit, way in zip(edits, ways, strict=True))


def _mends(case: Case, spec: TrainingSpec, room: int) -> Iterator[Mend]:
    edits = list(_edits(case, spec))
    for count in range(1, _MOST_EDITS + 1):
        for chosen in combinations(edits, count):
            if len({edit.path for edit, _ in chosen}) < count:
                continue
            changed = case
            for _, change in chosen:
                changed = change(changed)
            total = changed.plan().total
            if total <= room:
                yield Mend(tuple(edit for edit, _ in chosen), total)


def _edits(case: Case, spec: TrainingSpec) -> Iterator[tuple[Edit, Any]]:
    """Each with what it does to the case; those that change nothing of the result first, then the slower, then the others."""
    hyper = spec.hyperparameters
    assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
    if hyper.activation_checkpointing != "full":
        yield _hyper("activation_checkpointing", "full")
    if hyper.optim != "adamw_8bit":
        yield _hyper("optim", "adamw_8bit")
    if case.setting.device == "cuda" and not hyper.offload_optimizer:
        yield _hyper("offload_optimizer", value=True)
    rows = hyper.per_device_train_batch_size
    while rows > 1:
        rows //= 2
        yield _fewer_rows(rows, hyper.per_device_train_batch_size)
    tuning = case.setting.tuning
    if not isinstance(tuning, AdapterTuning):
        yield _tuned("lora", LoraTuning())
    if not isinstance(tuning, QloraTuning):
        given = tuning.model_dump(exclude={"method"}) if isinstance(tuning, AdapterTuning) else {}
        yield _tuned("qlora", QloraTuning.model_validate(given))
    length = hyper.max_length
    while length > 256:
        length //= 2
        yield _shorter(length, hyper.max_length)


def _hyper(name: str, value: Any) -> tuple[Edit, Any]:
    def change(case: Case) -> Case:
        hyper = case.setting.hyperparameters.model_copy(update={name: value})
        return case._replace(setting=replace(case.setting, hyperparameters=hyper))

    return Edit(f"hyperparameters.{name}", value), change


def _tuned(method: str, tuning: Any) -> tuple[Edit, Any]:
    def change(case: Case) -> Case:
        return case._replace(setting=replace(case.setting, tuning=tuning))

    return Edit("tuning.method", method), change


def _fewer_rows(rows: int, now: int) -> tuple[Edit, Any]:
    """What a micro-batch loses, gradient_accumulation_steps can make up for."""

    def change(case: Case) -> Case:
        return case._replace(work=_scaled(case.work, rows / now, accumulation=max(2, case.work.accumulation)))

    return Edit("hyperparameters.per_device_train_batch_size", rows), change


def _shorter(length: int, now: int) -> tuple[Edit, Any]:
    def change(case: Case) -> Case:
        work = _scaled(case.work, length / now, accumulation=case.work.accumulation)
        return case._replace(work=replace(work, document=min(work.document, length)))

    return Edit("hyperparameters.max_length", length), change


def _scaled(work: Workload, factor: float, *, accumulation: int) -> Workload:
    tokens, labels = (max(1, round(count * factor)) for count in (work.tokens, work.labels))
    return replace(work, tokens=max(tokens, work.document), labels=labels, accumulation=accumulation)
