"""/v1/plans. A plan is made by POST /v1/jobs?dry_run=true."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.answers import Page, answer
from api.deps import After, CallerDep, Limit, ServiceDep
from api.errors import documented
from api.plans import service as plans
from api.plans.estimates import EstimateQuery, RunEstimate, run_estimate
from api.plans.schemas import Accuracy, PlanObject

router = APIRouter(prefix="/plans", tags=["plans"])


@router.get("", response_model=Page[PlanObject], responses=documented(401, 422))
def list_plans(service: ServiceDep, caller: CallerDep, after: After = None, limit: Limit = 20) -> Response:
    """List plans, newest first."""
    return answer(plans.page(service, caller, after=after, limit=limit))


@router.get("/accuracy", response_model=Accuracy, responses=documented(401))
def show_plan_accuracy(service: ServiceDep, caller: CallerDep) -> Response:
    """Show how accurate the plans of jobs that succeeded were."""
    return answer(plans.accuracy(service, caller))


@router.get("/estimate", response_model=RunEstimate, responses=documented(401, 422))
def estimate_run(caller: CallerDep, query: Annotated[EstimateQuery, Query()]) -> Response:
    """Estimate what a training run of a published model needs on many GPUs: memory, operations, GPU hours."""
    del caller
    return answer(run_estimate(query))


@router.get("/{plan_id}", response_model=PlanObject, responses=documented(401, 404))
def show_plan(service: ServiceDep, caller: CallerDep, plan_id: str) -> Response:
    """Show a plan, with costs at the current prices."""
    return answer(plans.show(service, caller, plan_id))
