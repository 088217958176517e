"""Aliases: promotion through the gate, rollback, and history."""

from collections.abc import Mapping, Sequence

from api.aliases import gate
from api.aliases.schemas import AliasObject, PromotionRequest, turn_object
from api.answers import Page
from api.auth import Caller, missing_scope
from api.deps import Service
from api.errors import ApiError, conflict, not_found
from api.idempotency import once
from api.models.schemas import reference
from db import artifacts, audit, lineage, registry
from db.idempotency import IdempotentRequest
from db.models import Artifact, Promotion
from db.scopes import Scope
from db.session import Session

_HISTORY = 100
_MOST_ALIASES = 100
"""The most aliases of one name."""


def promote(service: Service, caller: Caller, asked: PromotionRequest, ask: IdempotentRequest | None) -> AliasObject:
    """Make the alias mean the candidate; a repeated request gets the answer of the first.

    Raises:
        ApiError: 404 or 422 for the candidate, 403 for `force` without an admin's key, 409 when the gate refuses
            or the candidate is an adapter whose base was deleted.
    """
    if asked.force and not caller.scope.covers(Scope.ADMIN):
        raise missing_scope(caller, Scope.ADMIN)
    with service.database.write() as session:
        registry.lock(session, caller.project_id)
        return once(session, ask, AliasObject, lambda: _promoted(session, caller, asked))


def _promoted(session: Session, caller: Caller, asked: PromotionRequest) -> AliasObject:
    candidate = _candidate(session, caller, asked.model)
    _require_below(session, candidate)
    now = registry.meant(session, caller.project_id, f"{candidate.name}{registry.SIGN}{asked.alias}")
    if now is None:
        _require_few(session, candidate)
    current = None if now is None else session.get(Artifact, now.artifact_id)
    if current is None or current.id != candidate.id:
        figures = {"comparisons": _judged(session, candidate, current, asked)}
        registry.turn(session, candidate, asked.alias, key_id=caller.key_id, figures=figures, forced=asked.force)
        audit.note(session, "alias.force" if asked.force else "alias.promote", candidate.id)
    return _shown(session, caller, candidate.name or "", asked.alias)


def _require_few(session: Session, candidate: Artifact) -> None:
    """Raise ApiError 409 when the name of the candidate has as many aliases as it may."""
    if registry.count(session, candidate.project_id, candidate.name or "") >= _MOST_ALIASES:
        message = f"{candidate.name} has {_MOST_ALIASES} aliases, the most that a name may have; promote to one of them"
        raise conflict("too_many_aliases", message)


def _require_below(session: Session, artifact: Artifact) -> None:
    """Raise ApiError 409 when something that the adapter is loaded onto was deleted, so that no job could use it."""
    deleted = next((each for each in lineage.below(session, artifact) if each.deleted_at is not None), None)
    if deleted is not None:
        message = f"{reference(artifact)} is an adapter on {reference(deleted)}, which was deleted"
        raise conflict("base_deleted", f"{message}; promote another version")


def _judged(
    session: Session, candidate: Artifact, current: Artifact | None, asked: PromotionRequest
) -> list[dict[str, object]]:
    """Return the comparisons; with `force`, missing or bad ones are no obstacle."""
    try:
        rivals = gate.rivals_of(session, candidate, current)
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
        message = f"{wanted} is a checkpoint, which has no name and so no alias; promote the result of its job"
        raise ApiError(422, "no_name", message, param="model")
    return found


def roll_back(service: Service, caller: Caller, wanted: str, ask: IdempotentRequest | None) -> AliasObject:
    """Return the alias to its previous version; a second rollback, unless it repeats the request, goes back one more.

    Raises:
        ApiError: 404, or 409 when there is no previous version, or it or its base was deleted.
    """
    with service.database.write() as session:
        registry.lock(session, caller.project_id)
        return once(session, ask, AliasObject, lambda: _rolled_back(session, caller, wanted))


def _rolled_back(session: Session, caller: Caller, wanted: str) -> AliasObject:
    now = registry.meant(session, caller.project_id, wanted)
    if now is None:
        raise not_found("alias", wanted)
    before = registry.before(session, now)
    if before is None:
        raise conflict("nothing_before", f"{wanted} has no previous version; promote another version")
    artifact = artifacts.get(session, caller.project_id, before.artifact_id)
    if artifact is None:
        message = f"the previous version of {wanted} was deleted; promote another version"
        raise conflict("deleted_before", message)
    _require_below(session, artifact)
    registry.turn(session, artifact, now.alias, key_id=caller.key_id, figures={}, back_to=before.number)
    audit.note(session, "alias.rollback", artifact.id)
    return _shown(session, caller, now.name, now.alias)


def show(service: Service, caller: Caller, wanted: str) -> AliasObject:
    """Return an alias with its history. Raises ApiError 404 when the project has no such alias."""
    name, _, alias = wanted.partition(registry.SIGN)
    with service.database.read() as session:
        return _shown(session, caller, name, alias)


def page(service: Service, caller: Caller, *, after: str | None, limit: int) -> Page[AliasObject]:
    with service.database.read() as session:
        rows, has_more = registry.current(session, caller.project_id, after=after, limit=limit)
        meanings = registry.meanings(session, rows)
        return Page.of([_object(meanings, [row]) for row in rows], has_more)


def _shown(session: Session, caller: Caller, name: str, alias: str) -> AliasObject:
    wanted = f"{name}{registry.SIGN}{alias}"
    turns = registry.history(session, caller.project_id, wanted, _HISTORY)
    if not turns:
        raise not_found("alias", wanted)
    return _object(registry.meanings(session, turns), turns)


def _object(meanings: Mapping[str, Artifact], turns: Sequence[Promotion]) -> AliasObject:
    shown = [turn_object(row, reference(meanings[row.artifact_id])) for row in turns]
    now = turns[0]
    return AliasObject(
        id=f"{now.name}{registry.SIGN}{now.alias}",
        model=shown[0].model,
        artifact_id=now.artifact_id,
        turn=shown[0],
        history=shown,
    )
