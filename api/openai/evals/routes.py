"""/v1/evals."""

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from api.answers import Page, answer
from api.bodies import documented_body, read_as
from api.deps import After, CallerDep, Limit, Order, ServiceDep
from api.errors import documented
from api.idempotency import ask_of
from api.openai.evals import service as evals
from api.openai.evals.schemas import (
    ITEM_ID,
    DeletedEval,
    DeletedRun,
    EvalChange,
    EvalObject,
    EvalRequest,
    ItemObject,
    RunObject,
    RunRequest,
)

router = APIRouter(prefix="/evals", tags=["OpenAI: evals"])

_READS = documented(400, 401, 404, 413, 415, 422)
OrderBy = Annotated[
    Literal["created_at", "updated_at"],
    Query(description="The order by creation or by last change; an eval changed between two pages moves."),
]
RunStatus = Annotated[
    Literal["queued", "in_progress", "completed", "canceled", "failed"] | None,
    Query(alias="status", description="Only runs with this status."),
]
ItemStatus = Annotated[
    Literal["pass", "fail", "error"] | None, Query(alias="status", description="Only items with this status.")
]
AfterItem = Annotated[
    str | None, Query(pattern=ITEM_ID, description="The last id of the previous page, which is not repeated.")
]


@router.post("", response_model=EvalObject, responses=_READS, openapi_extra=documented_body(EvalRequest))
async def create_eval(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Create an eval: the shape of its rows, and the criteria that grade them."""
    asked = await read_as(EvalRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(evals.create, service, caller, asked, ask))


@router.get("", response_model=Page[EvalObject], responses=documented(401, 404, 422))
def list_evals(
    service: ServiceDep,
    caller: CallerDep,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: OrderBy = "created_at",
) -> Response:
    """List evals."""
    return answer(evals.page(service, caller, after=after, limit=limit, order=order, order_by=order_by))


@router.get("/{eval_id}", response_model=EvalObject, responses=documented(401, 404))
def show_eval(service: ServiceDep, caller: CallerDep, eval_id: str) -> Response:
    """Show an eval."""
    return answer(evals.show(service, caller, eval_id))


@router.post("/{eval_id}", response_model=EvalObject, responses=_READS, openapi_extra=documented_body(EvalChange))
async def update_eval(service: ServiceDep, caller: CallerDep, request: Request, eval_id: str) -> Response:
    """Change the name or the metadata of an eval."""
    await to_thread.run_sync(evals.show, service, caller, eval_id)
    asked = await read_as(EvalChange, request, service.settings.max_body_bytes)
    return answer(await to_thread.run_sync(evals.change, service, caller, eval_id, asked))


@router.delete("/{eval_id}", response_model=DeletedEval, responses=documented(401, 404))
def delete_eval(service: ServiceDep, caller: CallerDep, eval_id: str) -> Response:
    """Delete an eval and its runs."""
    return answer(evals.delete(service, caller, eval_id))


@router.post("/{eval_id}/runs", response_model=RunObject, responses=_READS, openapi_extra=documented_body(RunRequest))
async def create_eval_run(service: ServiceDep, caller: CallerDep, request: Request, eval_id: str) -> Response:
    """Start a run, which grades rows by the criteria of the eval."""
    await to_thread.run_sync(evals.show, service, caller, eval_id)
    asked = await read_as(RunRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await to_thread.run_sync(evals.create_run, service, caller, eval_id, asked, ask))


@router.get("/{eval_id}/runs", response_model=Page[RunObject], responses=documented(401, 404, 422))
def list_eval_runs(
    service: ServiceDep,
    caller: CallerDep,
    eval_id: str,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus = None,
) -> Response:
    """List the runs of an eval."""
    return answer(evals.runs(service, caller, eval_id, after=after, limit=limit, order=order, state=status))


@router.get("/{eval_id}/runs/{run_id}", response_model=RunObject, responses=documented(401, 404))
def show_eval_run(service: ServiceDep, caller: CallerDep, eval_id: str, run_id: str) -> Response:
    """Show a run."""
    return answer(evals.show_run(service, caller, eval_id, run_id))


# OpenAI's clients 1 and 2 cancel a run by a POST to the run itself, client 3 by a path of its own.
@router.post(
    "/{eval_id}/runs/{run_id}", name="cancel_eval_run_itself", response_model=RunObject, responses=documented(401, 404)
)
@router.post("/{eval_id}/runs/{run_id}/cancel", response_model=RunObject, responses=documented(401, 404))
def cancel_eval_run(service: ServiceDep, caller: CallerDep, eval_id: str, run_id: str) -> Response:
    """Cancel a run; rows that were graded keep their results."""
    return answer(evals.cancel_run(service, caller, eval_id, run_id))


@router.delete("/{eval_id}/runs/{run_id}", response_model=DeletedRun, responses=documented(401, 404))
def delete_eval_run(service: ServiceDep, caller: CallerDep, eval_id: str, run_id: str) -> Response:
    """Delete a run."""
    return answer(evals.delete_run(service, caller, eval_id, run_id))


@router.get(
    "/{eval_id}/runs/{run_id}/output_items", response_model=Page[ItemObject], responses=documented(401, 404, 422)
)
def list_output_items(
    service: ServiceDep,
    caller: CallerDep,
    eval_id: str,
    run_id: str,
    after: AfterItem = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: ItemStatus = None,
) -> Response:
    """List graded rows."""
    return answer(evals.items(service, caller, eval_id, run_id, after=after, limit=limit, order=order, state=status))


@router.get(
    "/{eval_id}/runs/{run_id}/output_items/{item_id}", response_model=ItemObject, responses=documented(401, 404)
)
def show_output_item(service: ServiceDep, caller: CallerDep, eval_id: str, run_id: str, item_id: str) -> Response:
    """Show a graded row."""
    return answer(evals.item(service, caller, eval_id, run_id, item_id))
