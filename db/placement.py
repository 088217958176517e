"""Placement: which queued jobs a worker may take, by the labels, the GPUs and the memory that they require."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, literal_column, or_, select
from sqlalchemy.orm import Session

from db import clock
from db.models import Job, Worker

MISSED = 2
"""The number of missed heartbeats after which a worker counts as lost."""
DEVICE = "device"
# The distinct requirements of the queued jobs that need more than one worker of any kind, read from an index.
_ASKING = (
    select(Job.nodes, Job.requires)
    .where(literal_column("state = 'queued' AND (nodes > 1 OR requires <> '')"))
    .distinct()
)
_AT_LEAST = ">="
"""The operator before an amount, where a label has `=`: the number of `gpus`, or the GiB of `memory` of one device."""
_MEMORY = f"memory{_AT_LEAST}"
_GIB = 2**30
_ANYWHERE_GIB = 4
"""The memory that any worker is assumed to have. Jobs that need less require none, so few jobs require anything."""


class Present(NamedTuple):
    """A live worker. `memory_bytes` is that of all its GPUs, or of the machine if it has none."""

    name: str
    labels: Mapping[str, str]
    gpus: int | None = None
    memory_bytes: int = 0


def required(spec: Mapping[str, Any], needed_bytes: int = 0) -> str:
    """Return the requirements on a job's worker in canonical form: `name=value,name>=number`, sorted by name.

    `needed_bytes` is the memory of one of its processes. On a CPU the processes share memory, so their needs add up.
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
    """Return the requirements in a form for people."""
    parts = [f"{part} GiB" if part.startswith(_MEMORY) else part for part in requires.split(",")]
    return ", ".join(parts)


def answers(worker: Present | Worker, asked: str) -> bool:
    """Return whether a worker meets all requirements.

    A worker with GPUs reports their memory and not the machine's, so the memory that a CPU job requires is not checked.
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
    """Return the live workers, judged by their last heartbeats."""
    heard = Worker.heartbeat_at + MISSED * Worker.heartbeat_s >= clock.moment(s)
    query = select(Worker.name, Worker.labels, Worker.gpus, Worker.memory_bytes)
    found = s.execute(query.where(Worker.stopped_at.is_(None), heard))
    return [Present(name, labels or {}, gpus, memory_bytes) for name, labels, gpus, memory_bytes in found]


def takeable(s: Session, worker: str | None) -> ColumnElement[bool]:
    """Return the condition for the jobs that this worker may take, or any worker if it is None.

    A job that needs several workers counts only if that many live workers could take it, so that it blocks no other.
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
    # One list for each number of workers rather than one condition for each requirement: SQLite nests 1,000 at most.
    return or_(plain, *(and_(Job.nodes == nodes, Job.requires.in_(asked)) for nodes, asked in allowed.items()))
