"""The registry: aliases such as `support-bot@production`, what they mean and have meant."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, func, select
from sqlalchemy.orm import Session

from db.ids import new_id
from db.models import Artifact, Job, Project, Promotion
from db.state import JobState

SIGN = "@"


def meant(s: Session, project_id: str, reference: str) -> Promotion | None:
    """The turn that `name@alias` is at; None for what is no alias of the project."""
    name, _, alias = reference.partition(SIGN)
    turns = _turns(project_id, name, alias).order_by(Promotion.number.desc()).limit(1)
    return s.scalars(turns).one_or_none()


def history(s: Session, project_id: str, reference: str, limit: int) -> list[Promotion]:
    """The turns of an alias, newest first."""
    name, _, alias = reference.partition(SIGN)
    return list(s.scalars(_turns(project_id, name, alias).order_by(Promotion.number.desc()).limit(limit)))


def current(s: Session, project_id: str) -> list[Promotion]:
    """Of every alias of the project the turn that it is at, by name."""
    return list(s.scalars(_newest(project_id).order_by(Promotion.name, Promotion.alias)))


def of_artifact(s: Session, artifact: Artifact) -> list[str]:
    """The aliases that mean it now."""
    turns = _newest(artifact.project_id).where(Promotion.artifact_id == artifact.id)
    return sorted(f"{turn.name}{SIGN}{turn.alias}" for turn in s.scalars(turns))


def lock(s: Session, project_id: str) -> None:
    """Whoever turns an alias waits here for who is at it: what a gate sees is what is replaced."""
    s.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


def turn(
    s: Session,
    artifact: Artifact,
    alias: str,
    *,
    key_id: str,
    figures: dict[str, Any],
    forced: bool = False,
    back_to: int | None = None,
) -> Promotion:
    """Have the alias mean the artifact from now on. `lock` first."""
    assert artifact.name is not None, "aliases are of what has a name"
    numbers = select(func.max(Promotion.number)).where(*_of(artifact.project_id, artifact.name, alias))
    made = Promotion(
        id=new_id("turn"), project_id=artifact.project_id, name=artifact.name, alias=alias,
        number=(s.execute(numbers).scalar_one() or 0) + 1, artifact_id=artifact.id, back_to=back_to,
        forced=forced, figures=figures, key_id=key_id, created_at=time.time(),
    )  # fmt: skip
    s.add(made)
    s.flush()
    return made


def before(s: Session, at: Promotion) -> Promotion | None:
    """The turn that a rollback goes back to: the one before the one that is in force, however often that is asked."""
    in_force = at.number if at.back_to is None else at.back_to
    turns = _turns(at.project_id, at.name, at.alias).where(Promotion.number < in_force, Promotion.back_to.is_(None))
    return s.scalars(turns.order_by(Promotion.number.desc()).limit(1)).one_or_none()


def comparisons(s: Session, candidate: Artifact, rivals: Sequence[str]) -> dict[str, Job]:
    """Of each rival, by its reference, the newest finished evaluation of the candidate that compares with it."""
    ended = select(Job).where(
        Job.project_id == candidate.project_id,
        Job.base_artifact_id == candidate.id,
        Job.kind == "eval",
        Job.state == JobState.SUCCEEDED,
    )
    found: dict[str, Job] = {}
    for job in s.scalars(ended.order_by(Job.id)):
        rival = job.spec.get("compare_to")
        if isinstance(rival, str) and rival in rivals:
            found[rival] = job
    return found


def _of(project_id: str, name: str, alias: str) -> tuple[Any, ...]:
    return Promotion.project_id == project_id, Promotion.name == name, Promotion.alias == alias


def _turns(project_id: str, name: str, alias: str) -> Select[Promotion]:
    return select(Promotion).where(*_of(project_id, name, alias))


def _newest(project_id: str) -> Select[Promotion]:
    last = (
        select(Promotion.name, Promotion.alias, func.max(Promotion.number).label("number"))
        .where(Promotion.project_id == project_id)
        .group_by(Promotion.name, Promotion.alias)
        .subquery()
    )
    same = and_(Promotion.name == last.c.name, Promotion.alias == last.c.alias, Promotion.number == last.c.number)
    return select(Promotion).join(last, same).where(Promotion.project_id == project_id)
