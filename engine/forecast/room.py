"""Whether a job's memory fits this machine, and what to change where it does not."""

import operator
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from pydantic import ValidationError

from engine.errors import SpecError
from engine.jobs import JOB_SPEC, AnySpec
from engine.plan import MemoryPlan
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


class Elsewhere(NamedTuple):
    """Free bytes for what a process does not hold on its device: of the machine's memory, and of the run's disk."""

    memory: int
    disk: int


class Case(Protocol):
    """A job as far as its memory is concerned."""

    @property
    def spec(self) -> AnySpec:
        """What edits are of; nothing in it is `auto` that a plan depends on."""
        ...

    def plan(self) -> MemoryPlan: ...

    def fits_elsewhere(self) -> bool:
        """Whether what lies elsewhere than on the device has room there."""
        ...

    def edits(self) -> Iterator[tuple[Edit, "Change"]]:
        """Each with what it does to the case; those that change nothing of the result first, then the slower, then the others."""
        ...


Change: TypeAlias = Callable[[Any], Case]


def room_bytes(machine: Machine, ranks: int = 1) -> int:
    """What each of so many new processes of this machine may hold: all of a GPU, or its part of the memory."""
    if machine.device.type == "cuda":
        return torch.cuda.mem_get_info(machine.device)[0]
    return _available() // ranks


def room_elsewhere(folder: Path, ranks: int = 1) -> Elsewhere:
    """The same of what each is to hold elsewhere, in files of a folder or in the machine's memory."""
    return Elsewhere(_available() // ranks, shutil.disk_usage(folder).free // ranks)


def _available() -> int:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


def mend_of(case: Case, room: int) -> Mend | None:
    """The fewest edits, three at most, with which the job fits; of as many, those that change the result least.

    None where no three edits are enough.
    """
    return next(_mends(case, room), None)


def ways_out(case: Case, room: int) -> list[Mend]:
    """Three mends at most, each enough by itself and of other fields than the ones before, in the same order."""
    ways: dict[frozenset[str], Mend] = {}
    for mend in _mends(case, room):
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


def _mends(case: Case, room: int) -> Iterator[Mend]:
    edits = list(case.edits())
    for count in range(1, _MOST_EDITS + 1):
        for chosen in combinations(edits, count):
            if len({edit.path for edit, _ in chosen}) < count:
                continue
            changed: Case = case
            for _, change in chosen:
                changed = change(changed)
            try:
                total = changed.plan().total
            except SpecError:  # these edits do not go together
                continue
            mend = Mend(tuple(edit for edit, _ in chosen), total)
            if total <= room and changed.fits_elsewhere() and _valid(case.spec, mend.edits):
                yield mend


def _valid(spec: AnySpec, edits: Iterable[Edit]) -> bool:
    """Whether it is a spec still: what does not go together in one, no plan knows."""
    changed = spec.model_dump(mode="json")
    for edit in edits:
        *parts, field = edit.path.split(".")
        reduce(operator.getitem, parts, changed)[field] = edit.value
    try:
        JOB_SPEC.validate_python(changed)
    except ValidationError:
        return False
    return True
