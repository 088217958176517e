"""Checks whether a job's memory fits this machine, and what to change if it does not."""

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
_GROUP = Path("/sys/fs/cgroup")
"""The control group of this container (cgroup v2), which has a limit of its own."""
_GIVEN_UP = ("inactive_file", "active_file", "slab_reclaimable")
"""Caches that the kernel takes back before a control group is out of memory; MemAvailable counts them as free too."""


class Edit(NamedTuple):
    """A change of the spec: the path of a field, and its new value."""

    path: str
    value: Any


class Mend(NamedTuple):
    """Edits, and the memory in bytes that the job needs with them."""

    edits: tuple[Edit, ...]
    total: int


class Elsewhere(NamedTuple):
    """Bytes outside of a process's device: in the machine's memory, and on the disk of the run."""

    memory: int
    disk: int


class Case(Protocol):
    """A job as its memory plan sees it."""

    @property
    def spec(self) -> AnySpec:
        """The spec that edits change; the fields that a plan depends on are not `auto`."""
        ...

    def plan(self) -> MemoryPlan: ...

    def short_elsewhere(self) -> list[str]:
        """Return which places outside of the device, by their names in `Elsewhere`, lack room for what the job holds."""
        ...

    def edits(self) -> Iterator[tuple[Edit, "Change"]]:
        """Yield edits with their changes of the case: first those without effect on the result, then slower ones."""
        ...


Change: TypeAlias = Callable[[Any], Case]


def room_bytes(machine: Machine, ranks: int = 1) -> int:
    """Return what each of `ranks` new processes on this machine may hold: all of a GPU, or its share of the memory."""
    if machine.device.type == "cuda":
        return torch.cuda.mem_get_info(machine.device)[0]
    return _available() // ranks


def room_elsewhere(folder: Path, ranks: int = 1) -> Elsewhere:
    """Return what each of `ranks` processes may hold outside of its device, in memory and in files of a folder."""
    return Elsewhere(_available() // ranks, shutil.disk_usage(folder).free // ranks)


def _available() -> int:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free, granted = int(facts["MemAvailable"].split()[0]) * 1024, _granted(_GROUP)
    return free if granted is None else min(free, granted)


def _granted(group: Path) -> int | None:
    """Return what a control group may still take, with the caches that it would give up; None without a limit."""
    limit = group / "memory.max"
    allowed = limit.read_text().strip() if limit.exists() else "max"
    if not allowed.isdecimal():
        return None
    facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    held = int((group / "memory.current").read_text())
    given_up = sum(int(facts.get(name, 0)) for name in _GIVEN_UP)
    return max(0, int(allowed) - held + given_up)


def mend_of(case: Case, room: int) -> Mend | None:
    """Return the fewest edits, at most three, with which the job fits; among equally many, those of the least effect.

    Return None if three edits are not enough.
    """
    return next(_mends(case, room), None)


def ways_out(case: Case, room: int) -> list[Mend]:
    """Return at most three mends in the same order, each sufficient by itself and of other fields than those before."""
    ways: dict[frozenset[str], Mend] = {}
    for mend in _mends(case, room):
        fields = frozenset(edit.path for edit in mend.edits)
        if not any(known <= fields for known in ways):
            ways[fields] = mend
        if len(ways) == _MOST_WAYS:
            break
    return list(ways.values())


def enough_less(case: Case) -> int:
    """Return the bytes to aim for after a run of this plan was out of memory: it took more, or others hold a part."""
    return round(_SPARE * case.plan().total)


def as_text(ways: list[Mend]) -> str:
    """Return the edits of each mend, with the memory that is needed with them."""
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
            except SpecError:  # these edits exclude one another
                continue
            mend = Mend(tuple(edit for edit, _ in chosen), total)
            if total <= room and not changed.short_elsewhere() and _valid(case.spec, mend.edits):
                yield mend


def _valid(spec: AnySpec, edits: Iterable[Edit]) -> bool:
    """Return whether the edited spec is valid: plans do not know which fields exclude one another."""
    changed = spec.model_dump(mode="json")
    for edit in edits:
        *parts, field = edit.path.split(".")
        reduce(operator.getitem, parts, changed)[field] = edit.value
    try:
        JOB_SPEC.validate_python(changed)
    except ValidationError:
        return False
    return True
