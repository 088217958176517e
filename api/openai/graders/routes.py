"""/v1/fine_tuning/alpha/graders: grading one answer, and validating graders."""

import time
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.answers import answer
from api.bodies import documented_body, read_as
from api.deps import CallerDep, ServiceDep
from api.disconnects import unless_gone
from api.errors import documented
from api.free_json import FreeObject
from api.openai.graders.asking import Asking, usage_of
from engine.graders import Ask, Graded, Grader, GraderError, Reply, grade, keeping, sample_of

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["OpenAI: graders"])

_ASKING_AT_ONCE = CapacityLimiter(16)
"""Threads of their own: a model may take minutes to answer, and other routes need the shared threads."""
_ERRORS = (
    "formula_parse_error", "invalid_variable_error", "model_grader_parse_error", "model_grader_refusal_error",
    "model_grader_server_error", "other_error", "python_grader_runtime_error", "python_grader_server_error",
    "sample_parse_error", "truncated_observation_error", "unresponsive_reward_error",
)  # fmt: skip
_SERVER_ERROR = "model_grader_server_error"
_DETAILS = (
    "model_grader_server_error_details",
    "python_grader_runtime_error_details",
    "python_grader_server_error_type",
)
_MESSAGE = "message"
"""An extension: the reason for any error, where OpenAI has details of only some."""


class GraderRequest(BaseModel):
    """The body of `graders.validate`."""

    model_config = ConfigDict(extra="forbid")

    grader: Annotated[Grader, Field(discriminator="type")]


class GradeRequest(GraderRequest):
    """The body of `graders.run`: an answer, and the row that it answers."""

    model_sample: str
    item: FreeObject | None = None


class GraderAnswer(BaseModel):
    """A valid grader."""

    grader: dict[str, Any]


class GradeAnswer(BaseModel):
    """The reward, and the errors that occurred."""

    reward: float
    sub_rewards: dict[str, Any]
    metadata: dict[str, Any]
    model_grader_token_usage_per_model: dict[str, Any]


@router.post(
    "/validate",
    response_model=GraderAnswer,
    responses=documented(400, 401, 413, 415, 422),
    openapi_extra=documented_body(GraderRequest),
)
async def validate_grader(service: ServiceDep, _caller: CallerDep, request: Request) -> Response:
    """Validate a grader; whether its models exist is only checked when it runs."""
    asked = await read_as(GraderRequest, request, service.settings.max_body_bytes)
    return answer(GraderAnswer(grader=asked.grader.model_dump(mode="json", exclude_none=True)))


@router.post(
    "/run",
    response_model=GradeAnswer,
    responses=documented(400, 401, 413, 415, 422, 503),
    openapi_extra=documented_body(GradeRequest),
)
async def run_grader(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Grade one answer."""
    asked = await read_as(GradeRequest, request, service.settings.max_body_bytes)
    with Asking(service, caller) as asking:
        grading = to_thread.run_sync(
            partial(_graded, asked, asking.ask), abandon_on_cancel=True, limiter=_ASKING_AT_ONCE
        )
        return answer(await unless_gone(request, grading))


def _graded(asked: GradeRequest, ask: Ask) -> GradeAnswer:
    began = time.perf_counter()
    errors: dict[str, Any] = {**dict.fromkeys(_ERRORS, False), **dict.fromkeys(_DETAILS), _MESSAGE: None}
    result, replies = Graded(0.0, passed=False), list[tuple[str, Reply]]()
    row = {"item": asked.item or {}, "sample": sample_of(asked.model_sample)}
    try:
        result = grade(asked.grader, row, keeping(ask, replies))
    except GraderError as error:
        errors |= {error.kind: True, _MESSAGE: str(error)}
        if error.kind == _SERVER_ERROR:
            errors[f"{_SERVER_ERROR}_details"] = str(error)
    usage = usage_of(replies)
    metadata = {
        "name": asked.grader.name,
        "type": asked.grader.type,
        "errors": errors,
        "execution_time": time.perf_counter() - began,
        "scores": result.scores or {asked.grader.name: result.score},
        "sampled_model_name": next(iter(usage), None),
        "token_usage": sum(tokens["total_tokens"] for tokens in usage.values()) if usage else None,
    }
    return GradeAnswer(
        reward=result.score, sub_rewards=result.scores, metadata=metadata, model_grader_token_usage_per_model=usage
    )
