"""Records: the events and metrics of a job under one numbering, which is the stream's cursor."""

import time
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Table,
    UnaryExpression,
    asc,
    bindparam,
    delete,
    desc,
    insert,
    literal,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from db import clock, paging, stretches
from db.fence import Renewal
from db.models import Event, Job, Metric
from db.state import HELD, JobState

_MAX_INT = 2**63 - 1
_SPLITS = 2

_JOBS = cast("Table", Job.__table__)
_EVENTS = cast("Table", Event.__table__)
_METRICS = cast("Table", Metric.__table__)


def _upsert(dialect: Any) -> Any:
    statement = dialect.insert(_METRICS)
    fresh = {name: statement.excluded[name] for name in ("seq", "attempt", "created_at", "values")}
    return statement.on_conflict_do_update(index_elements=["job_id", "split", "step"], set_=fresh)


_INSERT_EVENTS = insert(_EVENTS)
_UPSERT_METRICS = {"sqlite": _upsert(sqlite), "postgresql": _upsert(postgresql)}
_UNSYNCHRONIZED = {"synchronize_session": False}


class Record(NamedTuple):
    """An event, or the metrics of a step: these have type "metrics", `split`, `step` and `values`, and no message."""

    seq: int
    created_at: float
    attempt: int | None
    type: str
    level: str | None = None
    message: str | None = None
    data: dict[str, Any] | None = None
    split: str | None = None
    step: int | None = None
    values: dict[str, float | None] | None = None


def append(
    s: Session,
    job_id: str,
    fence: int,
    *,
    events: Sequence[dict[str, Any]],
    metrics: Sequence[dict[str, Any]],
    lease_s: float,
    batch: int | None = None,
) -> Renewal | None:
    """All that a run has to tell since the last time, and the renewal of its lease, in one fenced transaction.

    An event is {type, level, message, data, created_at}, a metric {split, step, values,
    created_at}. Numbers follow the time within a batch. A step told twice keeps the later figures.
    `batch` counts up within an attempt: one that is in already, of which only the answer was lost,
    is not written again. None, and nothing written, when the fence is stale or the lease ran out.
    """
    kept = {(metric["split"], metric["step"]): metric for metric in metrics}
    told = sorted([*events, *kept.values()], key=_told_at)
    standing = _standing(events, metrics) | ({} if batch is None else {"batch": batch})
    given = {f"new_{name}": value for name, value in standing.items()} | clock.given(s)
    given |= {"of_job": job_id, "of_fence": fence, "told": len(told), "lease_s": lease_s}
    row = s.execute(_advance(clock.dialect(s), frozenset(standing)), given).one_or_none()
    if row is None:
        # A batch that is in already is refused too: a renewal alone tells which it was.
        return None if batch is None else append(s, job_id, fence, events=(), metrics=(), lease_s=lease_s)
    _write(s, job_id, fence, told, row.last_seq - len(told))
    return Renewal(row.cancel_requested_at is not None, row.state == JobState.PAUSING or row.preempted_by is not None)


def end_at(s: Session, job_id: str, step: int) -> None:
    """Leave no figures beyond a job's last step: an attempt that was lost may have come further than the one that ended."""
    beyond = delete(Metric).where(Metric.job_id == job_id, Metric.step > step)
    s.execute(beyond, execution_options=_UNSYNCHRONIZED)
    stretches.end_at(s, job_id, step)


def note(
    s: Session,
    job_id: str,
    type: str,  # noqa: A002 - the column's name
    level: str,
    message: str,
    data: dict[str, Any] | None = None,
    *,
    attempt: int | None = None,
) -> None:
    """An event that the service itself has to tell; no fence is asked for."""
    statement = update(Job).where(Job.id == job_id).values(last_seq=Job.last_seq + 1).returning(Job.last_seq)
    seq = s.scalars(statement, execution_options=_UNSYNCHRONIZED).one()
    enter(s, job_id, seq, type=type, level=level, message=message, data=data, attempt=attempt)


def enter(
    s: Session,
    job_id: str,
    seq: int,
    *,
    type: str,  # noqa: A002 - the column's name
    level: str,
    message: str,
    data: dict[str, Any] | None = None,
    attempt: int | None = None,
) -> None:
    """Write an event under a number that this transaction has already drawn from `jobs.last_seq`."""
    row = {"job_id": job_id, "seq": seq, "created_at": time.time(), "attempt": attempt}
    s.execute(_INSERT_EVENTS, row | {"type": type, "level": level, "message": message, "data": data})


def enter_first(
    s: Session,
    job_ids: Sequence[str],
    *,
    type: str,  # noqa: A002 - the column's name
    level: str,
    message: str,
    data: dict[str, Any],
) -> None:
    """The same event as number 1 of jobs that this transaction made."""
    event = {"seq": 1, "created_at": time.time(), "attempt": None}
    event |= {"type": type, "level": level, "message": message, "data": data}
    s.execute(_INSERT_EVENTS, [event | {"job_id": job_id} for job_id in job_ids])


def events_page(
    s: Session,
    job_id: str,
    *,
    after_seq: int = 0,
    limit: int,
    order: paging.Order = "asc",
    level: str | None = None,
    type: str | None = None,  # noqa: A002 - the column's name
) -> tuple[list[Event], bool]:
    """Events after `after_seq` in the given order (for "desc" 0 is the newest end), and whether more follow."""
    query = select(Event).where(Event.job_id == job_id)
    if level is not None:
        query = query.where(Event.level == level)
    if type is not None:
        query = query.where(Event.type == type)
    after = min(after_seq, _MAX_INT) if order == "asc" or after_seq else None
    return paging.page(s, query, Event.seq, after=after, limit=limit, order=order)


def metrics_page(
    s: Session, job_id: str, *, split: str | None = None, after_step: int | None = None, limit: int
) -> tuple[list[Metric], bool]:
    """Metrics by step, and whether more follow.

    A step's splits stay together, for the cursor is the step: without `split` a page can hold one row above `limit`.
    """
    query = select(Metric).where(Metric.job_id == job_id)
    if split is not None:
        query = query.where(Metric.split == split)
    if after_step is not None:
        query = query.where(Metric.step > min(after_step, _MAX_INT))
    rows = list(s.scalars(query.order_by(Metric.step, Metric.split.desc()).limit(limit + _SPLITS)))
    end = limit
    while end < len(rows) and rows[end].step == rows[end - 1].step:
        end += 1
    return rows[:end], len(rows) > end


def values_at(s: Session, job_id: str, name: str, steps: Collection[int]) -> dict[int, float]:
    """One figure of training at some steps, by step."""
    value = Metric.values[name].as_float()
    query = select(Metric.step, value).where(
        Metric.job_id == job_id, Metric.split == "train", Metric.step.in_(steps), value.is_not(None)
    )
    return {step: figure for step, figure in s.execute(query)}  # noqa: C416 - rows are no pairs to dict's types


def since(s: Session, job_id: str, seq: int, limit: int) -> list[Record]:
    """What came after `seq`, events and metrics in the order of their numbers."""
    seq = min(seq, _MAX_INT)
    return _told(s, job_id, Event.seq > seq, Metric.seq > seq, order=asc("seq"), limit=limit)


def newest(s: Session, job_id: str, *, before: int | None, limit: int) -> tuple[list[Record], bool]:
    """Events and metrics, newest first, from below the number `before`, and whether more follow."""
    seq = _MAX_INT if before is None else min(before, _MAX_INT)
    rows = _told(s, job_id, Event.seq < seq, Metric.seq < seq, order=desc("seq"), limit=limit + 1)
    return rows[:limit], len(rows) > limit


def _told(
    s: Session,
    job_id: str,
    events: ColumnElement[bool],
    metrics: ColumnElement[bool],
    *,
    order: UnaryExpression[Any],
    limit: int,
) -> list[Record]:
    """Both in one statement, so no number can commit between two looks and be missed."""
    told = select(
        Event.seq, Event.created_at, Event.attempt, Event.type, Event.level, Event.message, Event.data,
        null().label("split"), null().label("step"),
    ).where(Event.job_id == job_id, events)  # fmt: skip
    measured = select(
        Metric.seq, Metric.created_at, Metric.attempt, literal("metrics"), null(), null(), Metric.values,
        Metric.split, Metric.step,
    ).where(Metric.job_id == job_id, metrics)  # fmt: skip
    both = union_all(told, measured).order_by(order).limit(limit)
    return [
        Record(*row[:4], split=row.split, step=row.step, values=row.data) if row.type == "metrics" else Record(*row[:7])
        for row in s.execute(both)
    ]


@cache
def _advance(dialect: str, standing: frozenset[str]) -> Any:
    """The fenced UPDATE of `append`, built once: putting it together costs more than running it."""
    now, jobs = clock.placeholder(dialect), _JOBS.c
    values = {name: bindparam(f"new_{name}", type_=jobs[name].type) for name in standing}
    values |= {"heartbeat_at": now, "lease_expires_at": now + bindparam("lease_s", type_=Double)}
    values["last_seq"] = jobs.last_seq + bindparam("told", type_=BigInteger)
    statement = update(_JOBS).where(
        jobs.id == bindparam("of_job"),
        jobs.fence == bindparam("of_fence"),
        jobs.state.in_(sorted(HELD)),
        jobs.lease_expires_at > now,
    )
    if "batch" in standing:
        statement = statement.where(jobs.batch < values["batch"])
    return statement.values(values).returning(jobs.last_seq, jobs.state, jobs.preempted_by, jobs.cancel_requested_at)


def _told_at(record: dict[str, Any]) -> float:
    return record["created_at"]


def _standing(events: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where the job stands after these records, as columns of `jobs`."""
    standing: dict[str, Any] = {}
    for event in events:
        if event["type"] == "started":
            standing |= {"total_steps": event["data"]["total_steps"], "step": event["data"]["start_step"]}
    trained = [metric for metric in metrics if metric["split"] == "train"]
    if trained:
        standing |= {"step": trained[-1]["step"], "progress": trained[-1]["values"]}
    return standing


def _write(s: Session, job_id: str, fence: int, told: list[dict[str, Any]], seq: int) -> None:
    events: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for seq_, record in enumerate(told, seq + 1):
        row = record | {"job_id": job_id, "seq": seq_, "attempt": fence}
        (metrics if "split" in record else events).append(row)
    if events:
        s.execute(_INSERT_EVENTS, events)
    if metrics:
        steps = [(row["split"], row["step"]) for row in metrics]
        before = stretches.newest(s, job_id, {split for split, _ in steps})
        s.execute(_UPSERT_METRICS[clock.dialect(s)], metrics)
        stretches.keep(s, job_id, steps, before)
