"""/v1/workers and /v1/queue."""

from fastapi import APIRouter, Response

from api.answers import answer
from api.deps import CallerDep, Limit, ServiceDep
from api.errors import documented
from api.fleet import service as fleet
from api.fleet.schemas import QueueObject, WorkerList

router = APIRouter(tags=["fleet"])


@router.get("/workers", response_model=WorkerList, responses=documented(401))
def list_workers(service: ServiceDep, caller: CallerDep) -> Response:
    """List the workers with their machines, what they run, and their last heartbeats."""
    return answer(fleet.workers_of(service, caller))


@router.get("/queue", response_model=QueueObject, responses=documented(401, 422))
def show_queue(service: ServiceDep, caller: CallerDep, limit: Limit = 20) -> Response:
    """Show the waiting jobs and why they wait, the next one first."""
    return answer(fleet.queue_of(service, caller, limit))
