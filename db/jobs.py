"""Jobs: creating them, finding them, and the one function that changes their state."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Table, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from db import clock, outbox, paging, placement, records, webhooks
from db.ids import new_id
from db.models import Job
from db.state import ENDED, JobState, sources

# Built once: constructing a statement costs more than running it.
_INSERT = insert(cast("Table", Job.__table__))
_GET = select(Job).where(Job.id == bindparam("of_job"), Job.project_id == bindparam("of_project"))
_FRESH_JOB = {"state": JobState.QUEUED.value, "fence": 0, "failures": 0, "dispatches": 0, "last_seq": 1, "batch": 0}
_FRESH = {"synchronize_session": False, "populate_existing": True}
_TRAINS_NOTHING = "eval"
# Only a held job is preempted: with this condition it is found by the index on leases.
_CALL_OFF = (
    update(Job)
    .where(Job.preempted_by == bindparam("of_job"), Job.lease_expires_at.is_not(None))
    .values(preempted_by=None)
)


class NewJob(NamedTuple):
    """The fields that a job is created from."""

    project_id: str
    spec: dict[str, Any]
    kind: str
    priority: int
    base_artifact_id: str | None = None
    plan_id: str | None = None
    traceparent: str | None = None
    key_id: str | None = None
    needed_bytes: int = 0
    """The memory that one of its processes needs, if a plan forecasts it."""


def create(s: Session, wanted: Sequence[NewJob]) -> list[Job]:
    """Create queued jobs with their messages to the broker and their first events, all in this transaction."""
    if not wanted:
        return []
    now = time.time()
    fresh = _FRESH_JOB | {"created_at": now, "queued_at": now}
    job_ids = [new_id("job") for _ in wanted]
    rows = [
        fresh
        | {name: value for name, value in new._asdict().items() if name != "needed_bytes"}
        | {"id": job_id, "nodes": _least_nodes(new.spec)}
        | {"requires": placement.required(new.spec, new.needed_bytes)}
        for job_id, new in zip(job_ids, wanted, strict=True)
    ]
    s.execute(_INSERT, rows)
    outbox.add_all(s, job_ids)
    data = {"state": JobState.QUEUED.value}
    records.enter_first(s, job_ids, type="created", level="info", message="created, waiting for a worker", data=data)
    return [Job(**row) for row in rows]


def _least_nodes(spec: Mapping[str, Any]) -> int:
    resources = spec.get("resources", {})
    return resources.get("min_nodes") or resources.get("num_nodes", 1)


def get(s: Session, project_id: str, job_id: str) -> Job | None:
    """Return the project's job with this id."""
    return s.scalars(_GET, {"of_job": job_id, "of_project": project_id}).one_or_none()


def find(s: Session, job_id: str) -> Job | None:
    """Return the job with this id, of any project. For workers, never for a request."""
    return s.scalars(select(Job).where(Job.id == job_id)).one_or_none()


def lock(s: Session, project_id: str, job_id: str) -> Job | None:
    """Return the project's job as it is now, locked: until the commit nobody else claims or releases it."""
    return s.scalars(
        _GET.with_for_update(), {"of_job": job_id, "of_project": project_id}, execution_options=_FRESH
    ).one_or_none()


def page(
    s: Session,
    project_id: str,
    *,
    after: str | None,
    limit: int,
    kinds: Collection[str] | None = None,
    state: str | None = None,
    metadata: Mapping[str, str] | None = None,
    ids: Collection[str] | None = None,
) -> tuple[list[Job], bool]:
    """Return jobs, newest first, and whether more follow.

    A job matches `metadata` if it has all of these pairs, and an empty mapping if it has no metadata at all.
    """
    query = select(Job).where(Job.project_id == project_id)
    if kinds is not None:
        query = query.where(Job.kind.in_(kinds))
    if metadata is not None and not metadata:
        query = query.where(Job.spec["metadata"].as_string() == "{}")
    for name, value in (metadata or {}).items():
        query = query.where(_is_marked(s, name, value))
    if state is not None:
        query = query.where(Job.state == state)
    if ids is not None:
        query = query.where(Job.id.in_(ids))
    return paging.page(s, query, Job.id, after=after, limit=limit)


def _is_marked(s: Session, name: str, value: str) -> ColumnElement[bool]:
    """Return the condition that a job's metadata has this pair. SQLite's paths cannot express every name."""
    if clock.dialect(s) == "sqlite":
        pairs = func.json_each(Job.spec, "$.metadata").table_valued("key", "value")
        return select(pairs).where(pairs.c.key == name, pairs.c.value == value).exists()
    return Job.spec["metadata"][name].as_string() == value


def transition(
    s: Session,
    job_id: str,
    to: JobState,
    *,
    message: str,
    level: str = "info",
    conditions: Iterable[ColumnElement[bool]] = (),
    changes: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> Job | None:
    """Change a job's state and append a `state` event; return None if its state may not be followed by `to`.

    This is the only place that writes `jobs.state` after the insert. It is one conditional UPDATE, so of two concurrent
    calls one finds nothing to change. The event has the attempt, and `data` beside the new state. A job that is paused
    or has ended no longer preempts others. The end of a training job is announced to the project's webhooks.
    """
    values = {"state": to.value, "last_seq": Job.last_seq + 1} | _entering(s, to) | (changes or {})
    statement = update(Job).where(Job.id == job_id, Job.state.in_(sources(to)), *conditions).values(values)
    job = s.scalars(statement.returning(Job), execution_options=_FRESH).one_or_none()
    if job is None:
        return None
    if to is JobState.PAUSED or to in ENDED:
        s.execute(_CALL_OFF, {"of_job": job_id}, execution_options={"synchronize_session": False})
    records.enter(
        s,
        job_id,
        job.last_seq,
        type="state",
        level=level,
        message=message,
        data={"state": to.value} | (data or {}),
        attempt=job.fence or None,
    )
    if to in ENDED and job.kind != _TRAINS_NOTHING:
        webhooks.announce(s, job.project_id, f"fine_tuning.job.{to.value}", job.id)
    return job


def _entering(s: Session, to: JobState) -> dict[str, Any]:
    """Return the values of the other columns that a state implies."""
    if to is JobState.QUEUED:
        return {
            "queued_at": clock.moment(s),
            "lease_expires_at": None,
            "heartbeat_at": None,
            "finished_at": None,
            "worker": None,
            "preempted_by": None,
            "dispatched_at": None,
            "dispatches": 0,
        }
    if to is JobState.PAUSED:
        return {
            "lease_expires_at": None,
            "heartbeat_at": None,
            "finished_at": None,
            "worker": None,
            "preempted_by": None,
            "not_before": None,
        }
    if to in ENDED:
        return {
            "lease_expires_at": None,
            "preempted_by": None,
            "not_before": None,
            "finished_at": clock.moment(s),
        }
    return {}
