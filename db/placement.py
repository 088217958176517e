"""Placement: which waiting jobs a worker may take, by the labels that they ask for and it has."""

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


class Present(NamedTuple):
    """A worker that is there, and its labels."""

    name: str
    labels: Mapping[str, str]


def required(spec: Mapping[str, Any]) -> str:
    """What a job's worker must have, in the one way in which it is written: name=value,name=value by name."""
    resources = spec.get("resources", {})
    labels = dict(resources.get("labels") or {})
    if resources.get("device") == "cuda":
        labels[DEVICE] = "cuda"
    return written(labels.items())


def written(labels: Any) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels))


def answers(labels: Mapping[str, str] | None, asked: str) -> bool:
    """Whether a worker with these labels has all that is asked for."""
    return not asked or set(asked.split(",")) <= {f"{name}={value}" for name, value in (labels or {}).items()}


def present(s: Session) -> list[Present]:
    """The workers that are there, by their last heartbeats."""
    heard = Worker.heartbeat_at + MISSED * Worker.heartbeat_s >= clock.moment(s)
    query = select(Worker.name, Worker.labels).where(Worker.stopped_at.is_(None), heard)
    return [Present(name, labels or {}) for name, labels in s.execute(query)]


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
        able = [answers(each.labels, requires) for each in there]
        return any(answers(each.labels, requires) for each in own) and sum(able) >= nodes

    allowed = [(nodes, requires) for nodes, requires in asking if may(nodes, requires)]
    return or_(plain, *(and_(Job.nodes == nodes, Job.requires == requires) for nodes, requires in allowed))
