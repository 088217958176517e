"""Aliases: promotion through the gate, rollback in one call, and the whole history."""

from collections.abc import Sequence

from api.aliases import gate
from api.aliases.schemas import AliasObject, PromotionRequest, turn_object
from api.answers import Page
from api.auth import Caller, missing_scope
from api.deps import Service
from api.errors import ApiError, conflict, not_found
from api.models.schemas import reference
from db import artifacts, audit, registry
from db.models import Artifact, Promotion
from db.scopes import Scope
from db.session import Session

_HISTORY = 100


def promote(service: Service, caller: Caller, asked: PromotionRequest) -> AliasObject:
    """Turn the alias to the candidate.

    Raises:
        ApiError: 404 or 422 for the candidate, 403 for a force that is not an admin's, 409 when the gate refuses.
    """
    if asked.force and not caller.scope.covers(Scope.ADMIN):
        raise missing_scope(caller, Scope.ADMIN)
    with service.database.write() as session:
        registry.lock(session, caller.project_id)
        candidate = _candidate(session, caller, asked.model)
        now = registry.meant(session, caller.project_id, f"{candidate.name}{registry.SIGN}{asked.alias}")
        current = None if now is None else session.get(Artifact, now.artifact_id)
        if current is not None and current.id == candidate.id:
            return _shown(session, caller, candidate.name or "", asked.alias)
        figures = {"comparisons": _judged(session, candidate, current, asked)}
        registry.turn(session, candidate, asked.alias, key_id=caller.key_id, figures=figures, forced=asked.force)
        audit.note(session, "alias.force" if asked.force else "alias.promote", candidate.id)
        return _shown(session, caller, candidate.name or "", asked.alias)


def _judged(
    session: Session, candidate: Artifact, current: Artifact | None, asked: PromotionRequest
) -> list[dict[str, object]]:
    """What the evaluations say; a force goes on without them."""
    rivals = gate.rivals_of(session, candidate, current)
    try:
        comparisons = gate.compare(session, candidate, rivals, asked.metric)
    except ApiError:
        if asked.force:
            return []
        raise
    if not asked.force:
        gate.require(candidate, comparisons)
    return [each.model_dump() for each in comparisons]


def _candidate(session: Session, caller: Caller, wanted: str) -> Artifact:
    found = artifacts.resolve(session, caller.project_id, wanted)
    if found is None:
        message = f"there is no model or adapter {wanted[:100]!r} in this project"
        raise ApiError(404, "model_not_found", message, param="model")
    if found.name is None:
        message = f"{wanted} is a checkpoint, which has no name and so no alias; promote what its job made of it"
        raise ApiError(422, "no_name", message, param="model")
    return found


def roll_back(service: Service, caller: Caller, wanted: str) -> AliasObject:
    """Turn the alias to what it meant before. Once more goes back once more.

    Raises:
        ApiError: 404, or 409 when there is nothing before, or it was deleted.
    """
    with service.database.write() as session:
        registry.lock(session, caller.project_id)
        now = registry.meant(session, caller.project_id, wanted)
        if now is None:
            raise not_found("alias", wanted)
        before = registry.before(session, now)
        if before is None:
            raise conflict("nothing_before", f"{wanted} has meant nothing before this; promote another version")
        artifact = artifacts.get(session, caller.project_id, before.artifact_id)
        if artifact is None:
            message = f"what {wanted} meant before was deleted; promote another version"
            raise conflict("deleted_before", message)
        registry.turn(session, artifact, now.alias, key_id=caller.key_id, figures={}, back_to=before.number)
        audit.note(session, "alias.rollback", artifact.id)
        return _shown(session, caller, now.name, now.alias)


def show(service: Service, caller: Caller, wanted: str) -> AliasObject:
    """Raises ApiError 404 when the project has no such alias."""
    name, _, alias = wanted.partition(registry.SIGN)
    with service.database.read() as session:
        return _shown(session, caller, name, alias)


def page(service: Service, caller: Caller) -> Page[AliasObject]:
    with service.database.read() as session:
        rows = registry.current(session, caller.project_id)
        return Page.of([_object(session, [row]) for row in rows], has_more=False)


def _shown(session: Session, caller: Caller, name: str, alias: str) -> AliasObject:
    wanted = f"{name}{registry.SIGN}{alias}"
    turns = registry.history(session, caller.project_id, wanted, _HISTORY)
    if not turns:
        raise not_found("alias", wanted)
    return _object(session, turns)


def _object(session: Session, turns: Sequence[Promotion]) -> AliasObject:
    told = [turn_object(row, reference(session.get_one(Artifact, row.artifact_id))) for row in turns]
    now = turns[0]
    return AliasObject(
        id=f"{now.name}{registry.SIGN}{now.alias}",
        model=told[0].model,
        artifact_id=now.artifact_id,
        turn=told[0],
        history=told,
    )
