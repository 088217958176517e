"""Placement: which waiting jobs a worker may take, by the labels, the GPUs and the memory that they ask for and it has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, literal_column, or_, select
from sqlalchemy.orm import Session

from db import clock
from db.models import Job, Worker

MISSED = 2
"""A worker that has not been heard of for so many of its heartbeats is lost."""
DEVICE = "device"
# All that waiting jobs ask of workers but a single one of any kind. As an index has them, few of however many.
_ASKING = (
    select(Job.nodes, Job.requires)
    .where(literal_column("state = 'queued' AND (nodes > 1 OR requires <> '')"))
    .distinct()
)
_AT_LEAST = ">="
"""Ahead of an amount, where a label has `=`: so many `gpus`, so many GiB of `memory` of one device."""
_MEMORY = f"memory{_AT_LEAST}"
_GIB = 2**30
_ANYWHERE_GIB = 4
"""What any worker is taken to have: jobs that need less ask for no memory, so that few of those that wait ask for anything."""


class Present(NamedTuple):
    """A worker that is there; `memory_bytes` is that of all its GPUs, or of the machine where it has none."""

    name: str
    labels: Mapping[str, str]
    gpus: int | None = None
    memory_bytes: int = 0


def required(spec: Mapping[str, Any], needed_bytes: int = 0) -> str:
    """What a job's worker must have, in the one way in which it is written: name=value,name>=number by name.

    `needed_bytes` are those of one of its processes. Those that share a CPU's memory need it together.
    """
    resources = spec.get("resources", {})
    processes, on_gpus = resources.get("nproc_per_node", 1), resources.get("device") == "cuda"
    labels = dict(resources.get("labels") or {}) | ({DEVICE: "cuda"} if on_gpus else {})
    asked = [f"{name}={value}" for name, value in labels.items()]
    needed_gib = needed_bytes * (1 if on_gpus else processes) // _GIB
    if on_gpus and processes > 1:
        asked.append(f"gpus{_AT_LEAST}{processes}")
    if needed_gib >= _ANYWHERE_GIB:
        asked.append(f"{_MEMORY}{needed_gib}")
    return ",".join(sorted(asked))


def told(requires: str) -> str:
    """The same for people."""
    parts = [f"{part} GiB" if part.startswith(_MEMORY) else part for part in requires.split(",")]
    return ", ".join(parts)


def answers(worker: Present | Worker, asked: str) -> bool:
    """Whether a worker has all that is asked for.

    One with GPUs tells of their memory and not of the machine's, which a job on the CPU is not held against there.
    """
    parts = asked.split(",") if asked else []
    elsewhere = bool(worker.gpus) and f"{DEVICE}=cuda" not in parts
    return all(_has(worker, part) for part in parts if not (elsewhere and part.startswith(_MEMORY)))


def _has(worker: Present | Worker, part: str) -> bool:
    name, at_least, number = part.partition(_AT_LEAST)
    if not at_least:
        name, _, value = part.partition("=")
        return (worker.labels or {}).get(name) == value
    gpus = worker.gpus or 0
    return (gpus if name == "gpus" else worker.memory_bytes // max(1, gpus) // _GIB) >= int(number)


def present(s: Session) -> list[Present]:
    """The workers that are there, by their last heartbeats."""
    heard = Worker.heartbeat_at + MISSED * Worker.heartbeat_s >= clock.moment(s)
    query = select(Worker.name, Worker.labels, Worker.gpus, Worker.memory_bytes)
    found = s.execute(query.where(Worker.stopped_at.is_(None), heard))
    return [Present(name, labels or {}, gpus, memory_bytes) for name, labels, gpus, memory_bytes in found]


def takeable(s: Session, worker: str | None) -> ColumnElement[bool]:
    """The jobs that this worker may take, or any at all; one for several workers, only where so many could take it.

    One that needs more than there are holds up no other.
    """
    plain = and_(Job.nodes == 1, Job.requires == "")
    asking = s.execute(_ASKING).all()
    if not asking:
        return plain
    there = present(s)
    own = there if worker is None else [each for each in there if each.name == worker]

    def may(nodes: int, requires: str) -> bool:
        able = [answers(each, requires) for each in there]
        return any(answers(each, requires) for each in own) and sum(able) >= nodes

    allowed: dict[int, list[str]] = {}
    for nodes, requires in asking:
        if may(nodes, requires):
            allowed.setdefault(nodes, []).append(requires)
    # A list for each number of workers, not a condition for each thing asked: SQLite nests no deeper than a thousand.
    return or_(plain, *(and_(Job.nodes == nodes, Job.requires.in_(asked)) for nodes, asked in allowed.items()))
