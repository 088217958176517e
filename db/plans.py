"""Plans: forecasts that are stored, followed by jobs, and compared with what the jobs took."""

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import paging
from db.ids import new_id
from db.models import Job, Plan
from db.state import JobState


def add(s: Session, project_id: str, *, kind: str, spec: dict[str, Any], forecast: dict[str, Any]) -> Plan:
    """Store a plan."""
    plan = Plan(
        id=new_id("plan"), project_id=project_id, kind=kind, spec=spec, forecast=forecast, created_at=time.time()
    )
    s.add(plan)
    s.flush()
    return plan


def get(s: Session, project_id: str, plan_id: str) -> Plan | None:
    """Return the project's plan with this id."""
    return s.scalars(select(Plan).where(Plan.id == plan_id, Plan.project_id == project_id)).one_or_none()


def page(s: Session, project_id: str, *, after: str | None, limit: int) -> tuple[list[Plan], bool]:
    """Return plans, newest first, and whether more follow."""
    return paging.page(s, select(Plan).where(Plan.project_id == project_id), Plan.id, after=after, limit=limit)


def of_jobs(s: Session, plan_ids: Collection[str]) -> dict[str, Plan]:
    """Return plans by id, of any project: for the plans of jobs that the caller may see."""
    if not plan_ids:
        return {}
    return {plan.id: plan for plan in s.scalars(select(Plan).where(Plan.id.in_(plan_ids)))}


def kept(s: Session, project_id: str, limit: int) -> list[tuple[Job, Plan]]:
    """Return the project's jobs that followed a plan and succeeded, newest first, with their plans."""
    query = (
        select(Job, Plan)
        .join(Plan, Plan.id == Job.plan_id)
        .where(Job.project_id == project_id, Job.plan_id.is_not(None), Job.state == JobState.SUCCEEDED)
    )
    return [(job, plan) for job, plan in s.execute(query.order_by(Job.id.desc()).limit(limit))]


def past(s: Session, limit: int, *, evaluations: bool) -> list[Job]:
    """Return jobs of all projects that succeeded at their first attempt, newest first, as measurements for forecasts.

    They are either evaluations or training jobs: one kind says little about the other.
    """
    kind = Job.kind == "eval" if evaluations else Job.kind != "eval"
    query = select(Job).where(Job.state == JobState.SUCCEEDED, Job.fence == 1, kind)
    return list(s.scalars(query.order_by(Job.id.desc()).limit(limit)))
