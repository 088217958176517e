"""Records: the events and metrics of a job, numbered by one sequence, which is the cursor of its stream."""

import time
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
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
from sqlalchemy.orm import Session, aliased

from db import clock, paging, stretches
from db.fence import Renewal
from db.models import Event, Job, Metric
from db.state import HELD, JobState

_MAX_INT = 2**63 - 1
_SPLITS = ("train", "eval")

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
    """An event, or the metrics of a step, which have type "metrics", `split`, `step` and `values` but no message."""

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
    """Write what a run has reported since the last call, and renew its lease, in one fenced transaction.

    An event is {type, level, message, data, created_at}, a metric {split, step, values, created_at}. Within a batch,
    records are numbered in the order of their time. A step reported twice keeps the later values. `batch` counts up
    within an attempt: a batch that is already stored, because only the reply was lost, is not written again.
    Returns None, with nothing written, if the fence is stale or the lease has expired.
    """
    kept = {(metric["split"], metric["step"]): metric for metric in metrics}
    rows = sorted([*events, *kept.values()], key=_created_at)
    standing = _standing(events, metrics) | ({} if batch is None else {"batch": batch})
    given = {f"new_{name}": value for name, value in standing.items()} | clock.given(s)
    given |= {"of_job": job_id, "of_fence": fence, "count": len(rows), "lease_s": lease_s}
    row = s.execute(_advance(clock.dialect(s), frozenset(standing)), given).one_or_none()
    if row is None:
        # The UPDATE also refuses a batch that is already stored; a renewal without one tells the two cases apart.
        return None if batch is None else append(s, job_id, fence, events=(), metrics=(), lease_s=lease_s)
    _write(s, job_id, fence, rows, row.last_seq - len(rows))
    return Renewal(row.cancel_requested_at is not None, row.state == JobState.PAUSING or row.preempted_by is not None)


def end_at(s: Session, job_id: str, step: int) -> None:
    """Delete metrics beyond a job's last step: a lost attempt may have got further than the one that ended the job."""
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
    """Append an event of the service itself, which needs no fence."""
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
    """Insert an event under a number that this transaction has already taken from `jobs.last_seq`."""
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
    """Insert the same event as number 1 of each of the jobs that this transaction created."""
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
    """Return events after `after_seq` in the given order (for "desc", 0 is the newest end), and whether more follow."""
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
    """Return metrics in the order of their steps, and whether more follow.

    The rows of one step stay on one page, because the cursor is the step: without `split` a page can hold one row more
    than `limit`.
    """
    most = limit + len(_SPLITS)
    pages = [_split_page(job_id, name, after_step, most) for name in _SPLITS if split in {None, name}]
    if not pages:
        return [], False
    # Merging the head of each split reads no more than a page; one ORDER BY over both would sort the whole run.
    metric = aliased(Metric, union_all(*(select(page.subquery()) for page in pages)).subquery())
    rows = list(s.scalars(select(metric).order_by(metric.step, metric.split.desc()).limit(most)))
    end = limit
    while end < len(rows) and rows[end].step == rows[end - 1].step:
        end += 1
    return rows[:end], len(rows) > end


def _split_page(job_id: str, split: str, after_step: int | None, limit: int) -> Select[Metric]:
    """Select the first rows of one split, which the primary key has in their order."""
    query = select(Metric).where(Metric.job_id == job_id, Metric.split == split)
    if after_step is not None:
        query = query.where(Metric.step > min(after_step, _MAX_INT))
    return query.order_by(Metric.step).limit(limit)


def values_at(s: Session, job_id: str, name: str, steps: Collection[int]) -> dict[int, float]:
    """Return one metric of training at the given steps, by step."""
    value = Metric.values[name].as_float()
    query = select(Metric.step, value).where(
        Metric.job_id == job_id, Metric.split == "train", Metric.step.in_(steps), value.is_not(None)
    )
    return {step: figure for step, figure in s.execute(query)}  # noqa: C416 - to the type checker a row is not a pair


def since(s: Session, job_id: str, seq: int, limit: int) -> list[Record]:
    """Return the events and metrics after `seq`, in the order of their numbers."""
    seq = min(seq, _MAX_INT)
    return _records(s, job_id, Event.seq > seq, Metric.seq > seq, order=asc("seq"), limit=limit)


def newest(s: Session, job_id: str, *, before: int | None, limit: int) -> tuple[list[Record], bool]:
    """Return events and metrics numbered below `before`, newest first, and whether more follow."""
    seq = _MAX_INT if before is None else min(before, _MAX_INT)
    rows = _records(s, job_id, Event.seq < seq, Metric.seq < seq, order=desc("seq"), limit=limit + 1)
    return rows[:limit], len(rows) > limit


def _records(
    s: Session,
    job_id: str,
    events: ColumnElement[bool],
    metrics: ColumnElement[bool],
    *,
    order: UnaryExpression[Any],
    limit: int,
) -> list[Record]:
    """Select both in one statement: with two, a number committed in between could be missed."""
    reported = select(
        Event.seq, Event.created_at, Event.attempt, Event.type, Event.level, Event.message, Event.data,
        null().label("split"), null().label("step"),
    ).where(Event.job_id == job_id, events)  # fmt: skip
    measured = select(
        Metric.seq, Metric.created_at, Metric.attempt, literal("metrics"), null(), null(), Metric.values,
        Metric.split, Metric.step,
    ).where(Metric.job_id == job_id, metrics)  # fmt: skip
    both = union_all(reported, measured).order_by(order).limit(limit)
    return [
        Record(*row[:4], split=row.split, step=row.step, values=row.data) if row.type == "metrics" else Record(*row[:7])
        for row in s.execute(both)
    ]


@cache
def _advance(dialect: str, standing: frozenset[str]) -> Any:
    """Build the fenced UPDATE of `append`, once: constructing it costs more than running it."""
    now, jobs = clock.placeholder(dialect), _JOBS.c
    values = {name: bindparam(f"new_{name}", type_=jobs[name].type) for name in standing}
    values |= {"heartbeat_at": now, "lease_expires_at": now + bindparam("lease_s", type_=Double)}
    values["last_seq"] = jobs.last_seq + bindparam("count", type_=BigInteger)
    statement = update(_JOBS).where(
        jobs.id == bindparam("of_job"),
        jobs.fence == bindparam("of_fence"),
        jobs.state.in_(sorted(HELD)),
        jobs.lease_expires_at > now,
    )
    if "batch" in standing:
        statement = statement.where(jobs.batch < values["batch"])
    return statement.values(values).returning(jobs.last_seq, jobs.state, jobs.preempted_by, jobs.cancel_requested_at)


def _created_at(record: dict[str, Any]) -> float:
    return record["created_at"]


def _standing(events: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the job's progress after these records, as columns of `jobs`."""
    standing: dict[str, Any] = {}
    for event in events:
        if event["type"] == "started":
            standing |= {"total_steps": event["data"]["total_steps"], "step": event["data"]["start_step"]}
    trained = [metric for metric in metrics if metric["split"] == "train"]
    if trained:
        standing |= {"step": trained[-1]["step"], "progress": trained[-1]["values"]}
    return standing


def _write(s: Session, job_id: str, fence: int, records: list[dict[str, Any]], seq: int) -> None:
    events: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for seq_, record in enumerate(records, seq + 1):
        row = record | {"job_id": job_id, "seq": seq_, "attempt": fence}
        (metrics if "split" in record else events).append(row)
    if events:
        s.execute(_INSERT_EVENTS, events)
    if metrics:
        steps = [(row["split"], row["step"]) for row in metrics]
        before = stretches.newest(s, job_id, {split for split, _ in steps})
        s.execute(_UPSERT_METRICS[clock.dialect(s)], metrics)
        stretches.keep(s, job_id, steps, before)
