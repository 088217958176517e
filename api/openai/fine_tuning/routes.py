"""/v1/fine_tuning/jobs."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from api.answers import Page, answer
from api.bodies import documented_body, read_as
from api.deps import After, CallerDep, Limit, ServiceDep
from api.errors import documented
from api.idempotency import ask_of
from api.openai.fine_tuning import service as fine_tuning
from api.openai.fine_tuning.schemas import FineTuningCheckpoint, FineTuningEvent, FineTuningJob, JobRequest

router = APIRouter(prefix="/fine_tuning/jobs", tags=["OpenAI: fine-tuning"])

_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)
NoMetadata = Annotated[
    Literal["null"] | None,
    Query(description="Only jobs without metadata (null); `metadata[key]=value` selects jobs that have that entry."),
]
AfterEvent = Annotated[
    str | None,
    Query(pattern=r"^ftevent-[0-9]{1,15}$", description="The last id of the previous page, which is not repeated."),
]
EventLimit = Annotated[int, Query(ge=1, le=1000, description="The maximum number of events on the page.")]


@router.post(
    "",
    name="create_fine_tuning_job",
    response_model=FineTuningJob,
    responses=documented(400, 401, 413, 415, 422, 507),
    openapi_extra=documented_body(JobRequest),
)
async def create(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Submit a job as OpenAI's clients do; the body may also contain keys of the job spec."""
    asked = await read_as(JobRequest, request, service.settings.max_body_bytes)
    ask = ask_of(request, caller, asked.model_dump(mode="json"))
    return answer(await fine_tuning.create(service, caller, asked, ask))


@router.get("", name="list_fine_tuning_jobs", response_model=Page[FineTuningJob], responses=documented(401, 422))
def list_jobs(
    service: ServiceDep,
    caller: CallerDep,
    request: Request,
    after: After = None,
    limit: Limit = 20,
    metadata: NoMetadata = None,
) -> Response:
    """List training jobs, newest first."""
    wanted = {name[1]: value for key, value in request.query_params.items() if (name := _METADATA.fullmatch(key))}
    filtered = wanted or ({} if metadata else None)
    return answer(fine_tuning.page(service, caller, after=after, limit=limit, metadata=filtered))


@router.get("/{job_id}", name="show_fine_tuning_job", response_model=FineTuningJob, responses=documented(401, 404))
def show(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Show a job."""
    return answer(fine_tuning.show(service, caller, job_id))


def _add_order(verb: str, about: str) -> None:
    @router.post(
        f"/{{job_id}}/{verb}",
        name=f"{verb}_fine_tuning_job",
        response_model=FineTuningJob,
        responses=documented(401, 404, 409),
        description=about,
    )
    def order(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
        return answer(fine_tuning.order(service, caller, job_id, verb))


_add_order("cancel", "Cancel a job.")
_add_order("pause", "Pause a job, which saves a checkpoint first.")
_add_order("resume", "Resume a paused job.")


@router.get(
    "/{job_id}/events",
    name="list_fine_tuning_events",
    response_model=Page[FineTuningEvent],
    responses=documented(401, 404, 422),
)
def list_events(
    service: ServiceDep, caller: CallerDep, job_id: str, after: AfterEvent = None, limit: EventLimit = 20
) -> Response:
    """List the events of a job and the metrics of its steps, newest first."""
    return answer(fine_tuning.events(service, caller, job_id, after=after, limit=limit))


@router.get(
    "/{job_id}/checkpoints",
    name="list_fine_tuning_checkpoints",
    response_model=Page[FineTuningCheckpoint],
    responses=documented(401, 404, 422),
)
def list_checkpoints(
    service: ServiceDep, caller: CallerDep, job_id: str, after: After = None, limit: Limit = 10
) -> Response:
    """List the checkpoints of a job, newest first."""
    return answer(fine_tuning.checkpoints(service, caller, job_id, after=after, limit=limit))
