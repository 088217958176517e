"""Reports of spend, budgets, and the error for a request that would exceed one."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from api.auth import Caller, missing_scope
from api.deps import Service
from api.errors import ApiError, not_found
from api.spend.schemas import BudgetList, BudgetObject, BudgetRequest, SpendGroup, SpendReport, budget_object
from db import audit, budgets, keys, spend
from db.budgets import Excess
from db.scopes import Scope
from db.session import Session

_EPOCH = date(1970, 1, 1)
_REASONS = {
    "worker_s": "may use {most:,.0f} s of worker time a month and has used {used:,.0f}; wait for the next month",
    "money": "may spend {most:,.2f} a month and has spent {used:,.2f}; wait for the next month",
    "active_jobs": "may have {most:,.0f} queued or running jobs and has {used:,.0f}; wait for one to end",
    "storage_bytes": "may store {most:,.0f} bytes and stores {used:,.0f}; delete files, models or adapters",
}


def over_budget(excess: Excess) -> ApiError:
    """Return the error for what a budget does not allow; a header keeps clients from retrying."""
    reason = _REASONS[excess.amount].format(most=excess.most, used=excess.used)
    message = f"over budget: {excess.owner_id} {reason}, or have the budget raised"
    return ApiError(403, "over_budget", message, param=excess.amount, headers={"x-should-retry": "false"})


def require_room(session: Session, caller: Caller, price_per_hour: float | None, **more: int) -> None:
    """Raise ApiError 403 when these additional jobs or bytes exceed the budget of the caller's project or key."""
    if caller.limited:
        excess = budgets.excess(session, caller.project_id, caller.key_id, price_per_hour=price_per_hour, **more)
        if excess is not None:
            raise over_budget(excess)


def require_storage(service: Service, caller: Caller, new_bytes: int) -> None:
    """Check, before bytes are stored, that a budget leaves room for them. Raises ApiError 403 when none does."""
    if caller.limited:
        with service.database.write() as session:
            require_room(session, caller, None, new_bytes=new_bytes)


def list_budgets(service: Service, caller: Caller) -> BudgetList:
    price = service.settings.price_per_hour
    with service.database.read() as session:
        rows = budgets.list_of(session, caller.project_id)
        shown = [budget_object(row, budgets.use(session, row.project_id, row.owner_id), price) for row in rows]
    return BudgetList(data=shown)


def require_key(service: Service, caller: Caller, key_id: str) -> None:
    """Raise ApiError 404 when the project has no such key, or 403 when the key reaches further than the caller's."""
    with service.database.read() as session:
        _require_key(session, caller, key_id)


def _require_key(session: Session, caller: Caller, key_id: str) -> None:
    key = keys.get(session, caller.project_id, key_id)
    if key is None:
        raise not_found("key", key_id)
    scope = Scope(key.scope)
    if not caller.scope.covers(scope):
        raise missing_scope(caller, scope)


def put_budget(service: Service, caller: Caller, key_id: str, wanted: BudgetRequest) -> BudgetObject:
    """Set all amounts of a key's budget.

    Raises:
        ApiError: 404 when the project has no such key, or 403 when the key reaches further than the caller's.
    """
    amounts: dict[str, Any] = wanted.model_dump()
    with service.database.write() as session:
        _require_key(session, caller, key_id)
        budget = budgets.put(session, caller.project_id, key_id, **amounts)
        audit.note(session, "budget.set", key_id, amounts)
        used = budgets.use(session, caller.project_id, key_id)
    return budget_object(budget, used, service.settings.price_per_hour)


def report(
    service: Service,
    caller: Caller,
    *,
    by: spend.By,
    since: date | None,
    until: date | None,
    project_id: str | None,
    key_id: str | None,
    kind: str | None,
) -> SpendReport:
    """Report usage by the project; for an operator's key, by all projects.

    Raises:
        ApiError: 404 for another project, 422 for days in the wrong order.
    """
    if not caller.scope.covers(Scope.OPERATOR):
        if project_id not in {None, caller.project_id}:
            raise not_found("project", project_id or "")
        project_id = caller.project_id
    until = until or datetime.now(UTC).date()
    since = since or until.replace(day=1)
    if since > until:
        raise ApiError(422, "invalid_days", f"since {since} is later than until {until}", param="since")
    with service.database.read() as session:
        groups = spend.report(
            session, by,
            since=(since - _EPOCH).days, until=(until - _EPOCH).days, project_id=project_id, key_id=key_id, kind=kind,
        )  # fmt: skip
    worker_s = sum(group.worker_s for group in groups)
    price = service.settings.price_per_hour
    return SpendReport(
        since=str(since),
        until=str(until),
        by=by,
        worker_s=worker_s,
        attempts=sum(group.attempts for group in groups),
        cost=_cost(worker_s, price),
        currency=service.settings.currency,
        data=[
            SpendGroup(
                of=_label(group.of), worker_s=group.worker_s, attempts=group.attempts, cost=_cost(group.worker_s, price)
            )
            for group in groups
        ],
    )


def _cost(worker_s: float, price_per_hour: float | None) -> float | None:
    return None if price_per_hour is None else worker_s / 3600 * price_per_hour


def _label(of: str | int) -> str | None:
    return str(_EPOCH + timedelta(days=of)) if isinstance(of, int) else of or None
