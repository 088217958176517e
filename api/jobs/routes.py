"""/v1/jobs."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import StringConstraints

from api.answers import Page, Series, answer
from api.bodies import read_json
from api.deps import After, CallerDep, Limit, Order, SeriesLimit, ServiceDep
from api.disconnects import unless_gone
from api.errors import documented
from api.idempotency import ask_of
from api.jobs import service as jobs
from api.jobs import submit
from api.jobs.config import config
from api.jobs.curves import curve
from api.jobs.items import Only, items
from api.jobs.rows import rows
from api.jobs.schemas import (
    CurveObject,
    EventObject,
    JobConfig,
    JobObject,
    MetricObject,
    ScoredRow,
    Status,
    StepRows,
)
from api.models.schemas import ArtifactObject
from api.plans import service as plans
from api.plans.schemas import PlanObject
from engine.jobs import JOB_SPEC, SPECS

router = APIRouter(prefix="/jobs", tags=["jobs"])

SPEC_SCHEMA = JOB_SPEC.json_schema(ref_template="#/components/schemas/{model}")
_PLAN_SCHEMA = {
    "type": "object",
    "title": "PlannedJob",
    "required": ["plan_id"],
    "additionalProperties": False,
    "properties": {
        "plan_id": {
            "type": "string",
            "description": "The id of a plan; the job trains on the same rows in the same steps.",
        }
    },
}
_SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [{k: v for k, v in SPEC_SCHEMA.items() if k != "$defs"}, _PLAN_SCHEMA]}
            }
        },
    }
}

_MAX_SEQ = 2**53
DryRun = Annotated[bool, Query(description="Whether to make a plan instead of a job; the plan can be submitted.")]
Kind = Annotated[str | None, Query(pattern=f"^({'|'.join(SPECS)})$", description="Only jobs of this kind.")]
Ids = Annotated[
    list[Annotated[str, StringConstraints(max_length=100)]] | None,
    Query(
        max_length=100,
        description="Only the jobs with these ids; unknown ids are ignored. Repeat the parameter for each.",
    ),
]
StatusFilter = Annotated[Status | None, Query(description="Only jobs with this status.")]
AfterSeq = Annotated[int, Query(ge=0, le=_MAX_SEQ, description="The last `seq` of the previous page.")]
AfterStep = Annotated[int | None, Query(ge=0, le=_MAX_SEQ, description="The last step of the previous page.")]
AfterItem = Annotated[int, Query(ge=0, le=_MAX_SEQ, description="The last number of the previous page.")]
OnlyItems = Annotated[
    Only | None,
    Query(
        description="Only rows on which the model did worse or better than the one it is compared with, or was wrong."
    ),
]
Level = Annotated[Literal["info", "warn", "error"] | None, Query(description="Only events of this level.")]
EventType = Annotated[
    str | None, Query(pattern="^[a-z_]{1,50}$", description="Only events of this type: started, state, sample, ...")
]
Step = Annotated[int, Path(ge=1, le=_MAX_SEQ, description="The number of a step, from 1.")]
Points = Annotated[
    int, Query(ge=2, le=20_000, description="The approximate maximum number of points; extremes are kept.")
]
Smoothing = Annotated[
    float,
    Query(ge=0, lt=1, description="The weight of earlier points in the exponential moving average; 0 disables it."),
]
Metric = Annotated[str, Path(pattern=r'^[^"\\\x00]{1,200}$', description="The name of a metric: loss, grad_norm, ...")]
OneSplit = Annotated[Literal["train", "eval"], Query(description="The split that the metric was measured on.")]
Split = Annotated[Literal["train", "eval"] | None, Query(description="Only metrics of this split.")]


@router.post(
    "",
    status_code=201,
    response_model=JobObject,
    responses={200: {"model": PlanObject, "description": "The plan."}}
    | documented(400, 401, 404, 413, 415, 422, 503, 507),
    openapi_extra=_SPEC_BODY,
)
async def create_job(service: ServiceDep, caller: CallerDep, request: Request, dry_run: DryRun = False) -> Response:
    """Submit a job, which runs as soon as a worker is free; with `dry_run`, only plan it."""
    body = await read_json(request, service.settings.max_body_bytes)
    if dry_run:
        return answer(await unless_gone(request, plans.make(service, caller, body)))
    job = await submit.create(service, caller, body, ask_of(request, caller, body))
    return answer(job, 201, {"Location": f"/v1/jobs/{job.id}"})


@router.get("", response_model=Page[JobObject], responses=documented(401, 422))
def list_jobs(
    service: ServiceDep,
    caller: CallerDep,
    after: After = None,
    limit: Limit = 20,
    kind: Kind = None,
    status: StatusFilter = None,
    id: Ids = None,  # noqa: A002 - the query's name
) -> Response:
    """List jobs, newest first."""
    return answer(jobs.page(service, caller, after=after, limit=limit, kind=kind, status=status, ids=id))


@router.get("/{job_id}", response_model=JobObject, responses=documented(401, 404))
async def show_job(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Show a job."""
    return answer(await service.look(jobs.show, service, caller, job_id))


@router.get("/{job_id}/config", response_model=JobConfig, responses=documented(401, 404))
def show_job_config(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Show every value of a job's configuration, and whether it is a default, `auto` or set."""
    return answer(config(service, caller, job_id))


@router.post("/{job_id}/cancel", response_model=JobObject, responses=documented(401, 404, 409))
def cancel_job(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Cancel a job: a queued job stops at once, a running one within a few heartbeats."""
    return answer(jobs.cancel(service, caller, job_id))


@router.post("/{job_id}/pause", response_model=JobObject, responses=documented(401, 404, 409))
def pause_job(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Pause a job: it saves a checkpoint, frees its worker, and waits until it is resumed."""
    return answer(jobs.pause(service, caller, job_id))


@router.post("/{job_id}/resume", response_model=JobObject, responses=documented(401, 404, 409))
def resume_job(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Resume a paused job from its checkpoint, on any worker."""
    return answer(jobs.resume(service, caller, job_id))


@router.post("/{job_id}/retry", response_model=JobObject, responses=documented(401, 404, 409))
def retry_job(service: ServiceDep, caller: CallerDep, job_id: str) -> Response:
    """Retry a failed job from its newest checkpoint."""
    return answer(jobs.retry(service, caller, job_id))


@router.get("/{job_id}/events", response_model=Series[EventObject], responses=documented(401, 404, 422))
def list_job_events(
    service: ServiceDep,
    caller: CallerDep,
    job_id: str,
    after: AfterSeq = 0,
    limit: SeriesLimit = 100,
    order: Order = "asc",
    level: Level = None,
    type: EventType = None,  # noqa: A002 - the query's name
) -> Response:
    """List the events of a job."""
    return answer(jobs.events(service, caller, job_id, after=after, limit=limit, order=order, level=level, type=type))


@router.get("/{job_id}/metrics", response_model=Series[MetricObject], responses=documented(401, 404, 422))
def list_job_metrics(
    service: ServiceDep,
    caller: CallerDep,
    job_id: str,
    split: Split = None,
    after: AfterStep = None,
    limit: SeriesLimit = 1000,
) -> Response:
    """List the metrics of a job by step; the cursor is the step."""
    return answer(jobs.metrics(service, caller, job_id, split=split, after=after, limit=limit))


@router.get("/{job_id}/metrics/{metric:path}", response_model=CurveObject, responses=documented(401, 404, 422))
def show_job_curve(
    service: ServiceDep,
    caller: CallerDep,
    job_id: str,
    metric: Metric,
    split: OneSplit = "train",
    points: Points = 2000,
    smoothing: Smoothing = 0.0,
) -> Response:
    """Show one metric over the steps of a job; its name may contain a slash."""
    return answer(curve(service, caller, job_id, split=split, name=metric, points=points, smoothing=smoothing))


@router.get("/{job_id}/steps/{step}/rows", response_model=StepRows, responses=documented(401, 404, 422))
def list_step_rows(service: ServiceDep, caller: CallerDep, job_id: str, step: Step) -> Response:
    """List the rows of one step with their losses, which are known from the next checkpoint on."""
    return answer(rows(service, caller, job_id, step))


@router.get("/{job_id}/items", response_model=Series[ScoredRow], responses=documented(401, 404, 422))
def list_scored_rows(
    service: ServiceDep,
    caller: CallerDep,
    job_id: str,
    after: AfterItem = 0,
    limit: Limit = 20,
    only: OnlyItems = None,
) -> Response:
    """List the rows that an evaluation scored, with the scores of each model."""
    return answer(items(service, caller, job_id, after=after, limit=limit, only=only))


@router.get("/{job_id}/checkpoints", response_model=Page[ArtifactObject], responses=documented(401, 404, 422))
def list_job_checkpoints(
    service: ServiceDep, caller: CallerDep, job_id: str, after: After = None, limit: Limit = 20
) -> Response:
    """List the checkpoints of a job, newest first."""
    return answer(jobs.checkpoints(service, caller, job_id, after=after, limit=limit))
