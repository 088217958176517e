"""/v1/spend: usage. /v1/budgets: its limits. A project's own budget is set with `python -m api.projects`."""

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

_Since = Annotated[
    date | None, Query(description="The first day (UTC) of the report; default: the first of the month.")
]
_Until = Annotated[date | None, Query(description="The last day (UTC) of the report; default: today.")]
_ProjectId = Annotated[ObjectId | None, Query(description="Only usage by this project.")]
_KeyId = Annotated[ObjectId | None, Query(description="Only usage by this key.")]


@router.get("/spend", response_model=SpendReport, responses=documented(401, 404, 422))
def show_spend(
    service: ServiceDep,
    caller: CallerDep,
    by: Annotated[By, Query(description="What the rows of the report are grouped by.")] = "day",
    since: _Since = None,
    until: _Until = None,
    project_id: _ProjectId = None,
    key_id: _KeyId = None,
    kind: Kind = None,
) -> Response:
    """Report the worker time that the project used, by default in this month; an operator's key sees all projects."""
    return answer(
        spending.report(
            service, caller, by=by, since=since, until=until, project_id=project_id, key_id=key_id, kind=kind
        )
    )


@router.get("/budgets", response_model=BudgetList, responses=documented(401))
def list_budgets(service: ServiceDep, caller: CallerDep) -> Response:
    """List the budgets of the project and of its keys, with what is used of them."""
    return answer(spending.list_budgets(service, caller))


@router.put(
    "/keys/{key_id}/budget",
    response_model=BudgetObject,
    responses=documented(401, 404, 413, 415, 422),
    openapi_extra=documented_body(BudgetRequest),
)
async def set_key_budget(service: ServiceDep, caller: CallerDep, request: Request, key_id: str) -> Response:
    """Set the budget of a key, which takes effect within a second."""
    await to_thread.run_sync(spending.require_key, service, caller, key_id)
    wanted = await read_as(BudgetRequest, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(spending.put_budget, service, caller, key_id, wanted))
