"""Budgets: whether a project and a key may use more, decided in the transaction that would use it."""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, exists, func, literal_column, or_, select
from sqlalchemy.orm import Session

from db import spend, uploads
from db.models import ApiKey, Artifact, Budget, File, Job, Project, Upload, UploadPart
from db.state import JobState

_HOUR_S = 3600.0


class Excess(NamedTuple):
    """An amount of a budget that is or would be exceeded; `used` is the use before."""

    owner_id: str
    amount: str
    most: float
    used: float


class Overdrawn(NamedTuple):
    """A job that is to be paused, and the budget that is used up."""

    project_id: str
    job_id: str
    excess: Excess


class Use(NamedTuple):
    """The current use of a project or a key; the seconds are those of this month."""

    worker_s: float
    active_jobs: int
    storage_bytes: int


def put(s: Session, project_id: str, owner_id: str, **amounts: Any) -> Budget:
    """Set amounts of the budget of a project or a key; amounts that are not named stay, None removes one."""
    s.execute(
        select(Project.id).where(Project.id == project_id).with_for_update(key_share=True)
    )  # two may be the first
    budget = s.get(Budget, owner_id) or Budget(owner_id=owner_id, project_id=project_id)
    for name, most in amounts.items():
        setattr(budget, name, most)
    s.add(budget)
    s.flush()
    return budget


def get(s: Session, owner_id: str) -> Budget | None:
    return s.get(Budget, owner_id)


def list_of(s: Session, project_id: str) -> list[Budget]:
    """Return the budget of a project and those of its keys."""
    return list(s.scalars(select(Budget).where(Budget.project_id == project_id).order_by(Budget.owner_id)))


def limits(s: Session, key: ApiKey) -> bool:
    """Return whether the key or its project has a budget."""
    return s.execute(select(exists().where(Budget.owner_id.in_((key.id, key.project_id))))).scalar_one()


def use(s: Session, project_id: str, owner_id: str) -> Use:
    """Return the current use of the owner of a budget."""
    key_id = _key_of(project_id, owner_id)
    worker_s = spend.this_month(s, project_id, key_id)
    return Use(worker_s, _active_jobs(s, project_id, key_id), _storage_bytes(s, project_id, key_id))


def excess(
    s: Session, project_id: str, key_id: str, *, price_per_hour: float | None, jobs: int = 0, new_bytes: int = 0
) -> Excess | None:
    """Return the first amount, of the project's budget or the key's, that the new jobs or bytes would exceed.

    The budgets stay locked until the transaction ends. Without a price no money is counted.
    """
    for budget in _locked(s, project_id, key_id):
        over = (jobs and _spent(s, budget, price_per_hour)) or _crowded(s, budget, jobs, new_bytes)
        if over:
            return over
    return None


def overspent(s: Session, project_id: str, key_id: str, *, price_per_hour: float | None) -> Excess | None:
    """Return the time or the money that is used up, of the project's budget or the key's: what running jobs need."""
    spent = (_spent(s, budget, price_per_hour) for budget in _locked(s, project_id, key_id))
    return next(filter(None, spent), None)


def overdrawn(s: Session, price_per_hour: float | None, limit: int) -> list[Overdrawn]:
    """Return jobs that wait or run although the time or the money of a budget is used up, those that run first.

    Each job is listed once, whatever the number of budgets; one that was asked to stop or to pause is left out.
    """
    found: dict[str, Overdrawn] = {}
    for budget in s.scalars(select(Budget).where(or_(Budget.worker_s.is_not(None), Budget.money.is_not(None)))):
        over = _spent(s, budget, price_per_hour)
        if over is None:
            continue
        key_id = _key_of(budget.project_id, budget.owner_id)
        for active in _active(budget.project_id, key_id):
            unasked = select(Job.id).where(*active, Job.state != JobState.PAUSING, Job.cancel_requested_at.is_(None))
            for job_id in s.scalars(unasked.limit(limit)):
                found.setdefault(job_id, Overdrawn(budget.project_id, job_id, over))
        if len(found) >= limit:
            break
    return list(found.values())[:limit]


def _locked(s: Session, project_id: str, key_id: str) -> Iterable[Budget]:
    """Return the budgets of a project and of a key of it, if they have any, locked until the transaction ends."""
    owners = select(Budget).where(Budget.owner_id.in_((project_id, key_id))).order_by(Budget.owner_id)
    return s.scalars(owners.with_for_update())


def _spent(s: Session, budget: Budget, price_per_hour: float | None) -> Excess | None:
    """Return the amount of the month's time or money that is used up, if one is."""
    if budget.worker_s is None and budget.money is None:
        return None
    worker_s = spend.this_month(s, budget.project_id, _key_of(budget.project_id, budget.owner_id))
    if budget.worker_s is not None and worker_s >= budget.worker_s:
        return Excess(budget.owner_id, "worker_s", budget.worker_s, worker_s)
    money = worker_s / _HOUR_S * (price_per_hour or 0.0)
    if budget.money is not None and price_per_hour is not None and money >= budget.money:
        return Excess(budget.owner_id, "money", budget.money, money)
    return None


def _crowded(s: Session, budget: Budget, jobs: int, new_bytes: int) -> Excess | None:
    """Return the amount that the new jobs or bytes would exceed, if any. A job needs at least a byte for results."""
    key_id = _key_of(budget.project_id, budget.owner_id)
    if budget.active_jobs is not None and jobs:
        active = _active_jobs(s, budget.project_id, key_id)
        if active + jobs > budget.active_jobs:
            return Excess(budget.owner_id, "active_jobs", budget.active_jobs, active)
    if budget.storage_bytes is not None:
        stored = _storage_bytes(s, budget.project_id, key_id)
        if stored + max(new_bytes, jobs) > budget.storage_bytes:
            return Excess(budget.owner_id, "storage_bytes", budget.storage_bytes, stored)
    return None


def _key_of(project_id: str, owner_id: str) -> str | None:
    return None if owner_id == project_id else owner_id


def _active_jobs(s: Session, project_id: str, key_id: str | None) -> int:
    """Return how many jobs of a project, or of a key of it, wait or run."""
    counts = [select(func.count()).select_from(Job).where(*active) for active in _active(project_id, key_id)]
    return sum(s.execute(count).scalar_one() for count in counts)


def _active(project_id: str, key_id: str | None) -> list[list[ColumnElement[bool]]]:
    """Return the conditions for jobs that run, and those for jobs that wait, of a project or of a key of it."""
    # The project as an expression: by the column itself, SQLite would read all jobs that the project ever had.
    running = [Job.lease_expires_at.is_not(None), Job.project_id.concat("") == project_id]
    waiting = [Job.state == literal_column("'queued'"), Job.project_id == project_id]
    owned = [] if key_id is None else [Job.key_id == key_id]
    return [running + owned, waiting + owned]


def _storage_bytes(s: Session, project_id: str, key_id: str | None) -> int:
    """Return the size of files and artifacts that are not deleted. Equal bytes are stored once but count for each."""
    kept = select(func.coalesce(func.sum(File.size_bytes), 0)).where(
        File.project_id == project_id, File.deleted_at.is_(None)
    )
    made = select(func.coalesce(func.sum(Artifact.size_bytes), 0)).where(
        Artifact.project_id == project_id, Artifact.deleted_at.is_(None)
    )
    if key_id is not None:
        kept = kept.where(File.key_id == key_id)
        imported = Artifact.lineage["imported_by"].as_string() == key_id
        made = made.outerjoin(Job, Job.id == Artifact.job_id).where(or_(Job.key_id == key_id, imported))
    stored = int(s.execute(kept).scalar_one()) + int(s.execute(made).scalar_one())
    return stored if key_id is not None else stored + _pending_bytes(s, project_id)


def _pending_bytes(s: Session, project_id: str) -> int:
    """Return the bytes of the parts of a project's pending uploads, which do not record the key that sent them."""
    parts = select(func.coalesce(func.sum(UploadPart.size_bytes), 0)).join(Upload, Upload.id == UploadPart.upload_id)
    pending = uploads.IS_PENDING, Upload.project_id == project_id, Upload.expires_at > time.time()
    return int(s.execute(parts.where(*pending)).scalar_one())
