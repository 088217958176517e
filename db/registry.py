"""The registry of aliases such as `support-bot@production`, with the artifacts that they point and have pointed to."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, func, select, tuple_
from sqlalchemy.orm import Session

from db.ids import new_id
from db.lineage import with_adapters
from db.models import Artifact, Job, Project, Promotion
from db.state import JobState

SIGN = "@"


def meant(s: Session, project_id: str, reference: str) -> Promotion | None:
    """Return the newest promotion of `name@alias`, or None if the project has no such alias."""
    name, _, alias = reference.partition(SIGN)
    turns = _turns(project_id, name, alias).order_by(Promotion.number.desc()).limit(1)
    return s.scalars(turns).one_or_none()


def history(s: Session, project_id: str, reference: str, limit: int) -> list[Promotion]:
    """Return the promotions of an alias, newest first."""
    name, _, alias = reference.partition(SIGN)
    return list(s.scalars(_turns(project_id, name, alias).order_by(Promotion.number.desc()).limit(limit)))


def current(s: Session, project_id: str, *, after: str | None, limit: int) -> tuple[list[Promotion], bool]:
    """Return the newest promotion of each alias of a project, by name, and whether more follow; `after` is `name@alias`."""
    query = _newest(project_id).order_by(Promotion.name, Promotion.alias)
    if after is not None:
        name, _, alias = after.partition(SIGN)
        query = query.where(tuple_(Promotion.name, Promotion.alias) > tuple_(name, alias))
    rows = list(s.scalars(query.limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def meanings(s: Session, turns: Sequence[Promotion]) -> dict[str, Artifact]:
    """Return the artifacts that these promotions point to, by id, including deleted ones."""
    ids = {turn.artifact_id for turn in turns}
    return {artifact.id: artifact for artifact in s.scalars(select(Artifact).where(Artifact.id.in_(ids)))}


def count(s: Session, project_id: str, name: str) -> int:
    """Return how many aliases a name has."""
    aliases = select(func.count(Promotion.alias.distinct()))
    return s.execute(aliases.where(Promotion.project_id == project_id, Promotion.name == name)).scalar_one()


def of_artifact(s: Session, artifact: Artifact) -> list[str]:
    """Return the aliases that currently point to the artifact, or to an adapter on it, which is useless without it."""
    needing = select(with_adapters([artifact.id]).c.id)
    turns = _newest(artifact.project_id).where(Promotion.artifact_id.in_(needing))
    return sorted(f"{turn.name}{SIGN}{turn.alias}" for turn in s.scalars(turns))


def lock(s: Session, project_id: str) -> None:
    """Lock the project's aliases until the commit, so that a gate compares with the artifact that is then replaced."""
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
    """Point the alias to the artifact from now on. Call `lock` first."""
    assert artifact.name is not None, "only named artifacts have aliases"
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
    """Return the promotion that a rollback restores, or None.

    It is the one that was in force when the promotion in force was made, so never one that was rolled back by then.
    """
    turns = _turns(at.project_id, at.name, at.alias)
    in_force = at.number if at.back_to is None else at.back_to
    below = s.scalars(turns.where(Promotion.number == in_force - 1)).one_or_none()
    if below is None or below.back_to is None:
        return below
    return s.scalars(turns.where(Promotion.number == below.back_to)).one()


def comparisons(s: Session, candidate: Artifact, rivals: Sequence[str]) -> dict[str, Job]:
    """Return the newest successful evaluation of the candidate against each rival, by the rival's reference."""
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
