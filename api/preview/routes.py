"""/v1/preview."""

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from api.answers import answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.disconnects import unless_gone
from api.errors import documented
from api.jobs import submit
from api.preview.schemas import Preview, PreviewRequest

router = APIRouter(prefix="/preview", tags=["preview"])


@router.post(
    "",
    response_model=Preview,
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=documented_body(PreviewRequest),
)
async def preview_rows(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Show what a job would train on, token by token, with the labels that the trainer uses."""
    asked = await read_as(PreviewRequest, request, service.settings.max_body_bytes)
    job = await to_thread.run_sync(submit.checked, service, caller, asked.spec)
    question = {"ask": "preview", **submit.question_of(job), **asked.model_dump(exclude={"spec"}, exclude_none=True)}
    preview = await unless_gone(request, service.desk.answer(question))
    return answer(Preview(spec=job.spec, **preview))
