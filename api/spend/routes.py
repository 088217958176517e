"""/v1/spend: what was used. /v1/budgets: how much may be. A project's own budget is set by `python -m api.projects`."""

from datetime import date
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.answers import answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ObjectId, ServiceDep
from api.errors import documented
from api.jobs.routes import Kind
from api.spend import service as spending
from api.spend.schemas import BudgetList, BudgetObject, BudgetRequest, SpendReport
from db.spend import By

router = APIRouter(tags=["spend"])

_Day = Annotated[date | None, Query(description="In UTC; included.")]
_Of = Annotated[ObjectId | None, Query(description="Of this one only.")]


@router.get("/spend", response_model=SpendReport, responses=documented(401, 404, 422))
def show_spend(
    service: ServiceDep,
    caller: CallerDep,
    by: Annotated[By, Query(description="What each row of the report is about.")] = "day",
    since: _Day = None,
    until: _Day = None,
    project_id: _Of = None,
    key_id: _Of = None,
    kind: Kind = None,
) -> Response:
    """Tell what the project used of workers, since the month began if no days are named; to an operator's key, all projects."""
    return answer(
        spending.report(
            service, caller, by=by, since=since, until=until, project_id=project_id, key_id=key_id, kind=kind
        )
    )


@router.get("/budgets", response_model=BudgetList, responses=documented(401))
def list_budgets(service: ServiceDep, caller: CallerDep) -> Response:
    """List the budget of the project and those of its keys, with what is used of them."""
    return answer(spending.list_budgets(service, caller))


@router.put(
    "/keys/{key_id}/budget",
    response_model=BudgetObject,
    responses=documented(401, 404, 413, 415, 422),
    openapi_extra=documented_body(BudgetRequest),
)
async def set_key_budget(service: ServiceDep, caller: CallerDep, request: Request, key_id: str) -> Response:
    """Set the most that a key may use; it holds a second from now."""
    await to_thread.run_sync(spending.require_key, service, caller, key_id)
    wanted = await read_as(BudgetRequest, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(spending.put_budget, service, caller, key_id, wanted))
