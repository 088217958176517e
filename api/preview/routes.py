"""/v1/preview."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api.answers import answer
from api.bodies import read_json
from api.deps import CallerDep, ServiceDep
from api.errors import documented
from api.jobs import submit
from api.preview.schemas import Preview, PreviewRequest
from api.validation import invalid

router = APIRouter(prefix="/preview", tags=["preview"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": PreviewRequest.model_json_schema()}},
    }
}


@router.post(
    "",
    response_model=Preview,
    responses=documented(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=_BODY,
)
async def preview_rows(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Show what a job would train on, token by token: the labels are those of the trainer."""
    body = await read_json(request, service.settings.max_body_bytes)
    try:
        asked = PreviewRequest.model_validate(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), body) from error
    job = await to_thread.run_sync(submit.checked, service, caller, asked.spec)
    question = {"ask": "preview", **submit.question_of(job), **asked.model_dump(exclude={"spec"}, exclude_none=True)}
    told = await service.desk.answer(question)
    return answer(Preview(spec=job.spec, **told))
