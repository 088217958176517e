"""/healthz and /readyz: whether the process is alive, and whether it can serve requests."""

from typing import Literal

from anyio import to_thread
from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.answers import answer
from api.deps import Service, ServiceDep
from api.errors import ApiError, Fault, documented
from db import health

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the process."""

    status: Literal["ok", "ready"]


@router.get("/healthz", response_model=Health)
async def alive() -> Response:
    """Report that the process is alive."""
    return answer(Health(status="ok"))


@router.get("/readyz", response_model=Health, responses=documented(503))
async def ready(service: ServiceDep) -> Response:
    """Report whether the database is reachable, its schema is current and the blob store is writable."""
    faults = await to_thread.run_sync(_faults, service)
    if faults:
        message = "not ready: " + "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
        raise ApiError(503, "not_ready", message, faults=faults, headers={"Retry-After": "5"})
    return answer(Health(status="ready"))


def _faults(service: Service) -> list[Fault]:
    problems: dict[str, str] = {}
    if not health.ping(service.database):
        problems["database"] = "it does not answer"
    elif not health.up_to_date(service.database):
        problems["schema"] = "it is not current; run `python -m db.migrate upgrade`"
    if not service.blobs.writable():
        problems["blobs"] = "the blob store cannot be written"
    return [Fault(code="unavailable", path=part, message=problem) for part, problem in problems.items()]
