"""Placement: which waiting jobs a worker may take, by the labels that they ask for and it has.

A job keeps what it asks for as one text. A worker looks for the texts that its own labels can answer, so that no
label of a job is read in the database.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from db import clock
from db.models import Job, Worker

MOST_LABELS = 8
"""Of a worker, its device among them: it looks for as many texts as there are choices of them."""
MISSED = 2
"""A worker that has not been heard of for so many of its heartbeats is lost."""
DEVICE = "device"


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
    there = present(s)
    own = [each for each in there if each.name == worker] or [Present("", {})]
    many = Counter(text for each in there for text in _texts(each.labels))
    wanted = {text for each in (there if worker is None else own) for text in _texts(each.labels)} | {""}
    by_count: dict[int, list[str]] = {}
    for text in wanted:
        by_count.setdefault(many[text], []).append(text)
    return or_(
        *(
            and_(Job.requires.in_(texts), or_(Job.nodes == 1, Job.nodes <= count))
            for count, texts in sorted(by_count.items())
        )
    )


def _texts(labels: Mapping[str, str]) -> Iterator[str]:
    """All that a worker with these labels can answer."""
    for size in range(len(labels) + 1):
        yield from map(written, combinations(labels.items(), size))
