"""The queue: which waiting job goes next, and where the others stand.

Jobs of higher priority go first. Among equals, the project goes first that has the fewest jobs for its share, counting
its running jobs and its own jobs ahead in the queue; then the older job. A project at its limit goes last.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session

from db import clock, placement
from db.models import Job, Project
from db.workers import Fleet

_CLAIMS = 0x636C_6169_6D73
"""The advisory lock under which jobs are chosen on PostgreSQL, so that two choices cannot both take a project's last
slot. SQLite has one writer at a time."""

_MOST_HEADS = 100

# The state is spelled out: a parameter would keep SQLite from the partial indexes.
_QUEUED = Job.state == literal_column("'queued'")


class Place(NamedTuple):
    """Where a waiting job stands, from 1; `over` is how many of its project's jobs must end before it may start."""

    position: int
    over: int = 0


class Head(NamedTuple):
    """The first waiting job of those that need so many workers with the same properties (db.placement)."""

    id: str
    priority: int
    nodes: int
    requires: str
    queued_at: float


def choose(s: Session, worker: str | None = None) -> str | None:
    """Return the id of the job that this worker, or any, is to start now.

    No other choice is made until the transaction ends.
    """
    lock(s)
    line = _line(_due(s), placement.takeable(s, worker)).subquery()
    chosen = select(line.c.id).where(line.c.over <= 0).order_by(*_order(line.c)).limit(1)
    return s.scalars(chosen).one_or_none()


def heads(s: Session, limit: int = _MOST_HEADS) -> list[Head]:
    """Return the jobs that go next, in order: of each kind of workers that waiting jobs need, the first job alone.

    No other choice is made until the transaction ends.
    """
    lock(s)
    line = _line(_due(s), placement.takeable(s, None)).add_columns(Job.nodes, Job.requires, Job.queued_at).subquery()
    place = func.row_number().over(partition_by=(line.c.nodes, line.c.requires), order_by=_order(line.c))
    ranked = select(line, place.label("place")).where(line.c.over <= 0).subquery()
    first = select(*(ranked.c[name] for name in Head._fields)).where(ranked.c.place == 1)
    return [Head(*row) for row in s.execute(first.order_by(*_order(ranked.c)).limit(limit))]


def lock(s: Session) -> None:
    """Lock the choice of jobs, and everything that depends on it, until this transaction ends."""
    if clock.dialect(s) == "postgresql":
        s.execute(select(func.pg_advisory_xact_lock(_CLAIMS)))


def length(s: Session) -> int:
    """Return how many jobs of all projects wait."""
    return s.execute(select(_count())).scalar_one()


def of_project(s: Session, project_id: str, limit: int) -> list[Job]:
    """Return the waiting jobs of a project, in the order in which they are taken."""
    waiting = select(Job).where(_QUEUED, Job.project_id == project_id)
    return list(s.scalars(waiting.order_by(Job.priority.desc(), Job.id).limit(limit)))


def startable(s: Session) -> int:
    """Return how many waiting jobs could start now, given enough workers: more messages are not needed."""
    line = _line(_due(s), placement.takeable(s, None)).subquery()
    return s.execute(select(func.count()).where(line.c.over <= 0)).scalar_one()


def places(s: Session, waiting: Sequence[Job], fleet: Fleet, *, fresh: bool = False) -> dict[str, Place]:
    """Return the places of queued jobs among those of all projects, which share the workers.

    `fresh` says that this transaction created them: those of one priority are then the last ones of it.
    """
    if not waiting:
        return {}
    project_id = waiting[0].project_id
    if len({job.project_id for job in waiting}) > 1 or s.execute(_OTHERS, {"project": project_id}).scalar_one():
        return _among_projects(s, [job.id for job in waiting])
    positions = _at_the_end(s, waiting) if fresh else {job.id: _position(s, job) for job in waiting}
    limit = s.get_one(Project, project_id).max_running_jobs
    held = fleet.held(project_id)
    return {
        job_id: Place(position, 0 if limit is None else max(0, held + position - limit))
        for job_id, position in positions.items()
    }


def _due(s: Session) -> ColumnElement[bool]:
    return or_(Job.not_before.is_(None), Job.not_before <= clock.moment(s))


def _line(*conditions: ColumnElement[bool]) -> Select[str, int, float, int]:
    """Return the waiting jobs, each with the number of its project's jobs up to it, divided by the project's share."""
    # By an expression: by the column itself SQLite would group all jobs as an index has them, to sort none.
    project_id = Job.project_id.concat("").label("project_id")
    held = select(project_id, func.count().label("jobs")).where(Job.lease_expires_at.is_not(None))
    running = held.group_by(project_id).subquery()
    rank = func.row_number().over(partition_by=Job.project_id, order_by=(Job.priority.desc(), Job.id))
    turn = func.coalesce(running.c.jobs, 0) + rank
    over = func.coalesce(turn - Project.max_running_jobs, 0)
    return (
        select(Job.id, Job.priority, (turn / Project.share).label("turn"), over.label("over"))
        .join(Project, Project.id == Job.project_id)
        .outerjoin(running, running.c.project_id == Job.project_id)
        .where(_QUEUED, *conditions)
    )


def _order(line: Any) -> tuple[Any, ...]:
    return case((line.over > 0, 1), else_=0), line.priority.desc(), line.turn, line.id


def _among_projects(s: Session, job_ids: list[str]) -> dict[str, Place]:
    line = _line().subquery()
    position = func.row_number().over(order_by=_order(line.c)).label("position")
    ranked = select(line.c.id, position, line.c.over).subquery()
    rows = s.execute(select(ranked).where(ranked.c.id.in_(job_ids)))
    return {job_id: Place(position, max(0, over)) for job_id, position, over in rows}


def _count(*conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(Job).where(_QUEUED, *conditions).scalar_subquery()


# Where all waiting jobs are of one project, they are ordered by priority and age. The statements are built once, since
# that costs more than running them. Each has two ranges of an index: for one condition with OR, SQLite reads all of it.
_AHEAD = select(
    _count(Job.priority > bindparam("of_priority"))
    + _count(Job.priority == bindparam("of_priority"), Job.id < bindparam("of_job"))
)
# The last job is ahead of those of lower priority only. Counting all waiting jobs is faster than counting those of a
# priority, as the index has them.
_TO_THE_END = select(_count() - _count(Job.priority < bindparam("of_priority")))
_OTHERS = select(
    or_(
        exists().where(_QUEUED, Job.project_id < bindparam("project")),
        exists().where(_QUEUED, Job.project_id > bindparam("project")),
    )
)


def _position(s: Session, job: Job) -> int:
    return s.execute(_AHEAD, {"of_priority": job.priority, "of_job": job.id}).scalar_one() + 1


def _at_the_end(s: Session, fresh: Sequence[Job]) -> dict[str, int]:
    priorities = {job.priority for job in fresh}
    ends = {each: s.execute(_TO_THE_END, {"of_priority": each}).scalar_one() for each in priorities}
    positions: dict[str, int] = {}
    for job in reversed(fresh):
        positions[job.id] = ends[job.priority]
        ends[job.priority] -= 1
    return positions
