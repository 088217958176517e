"""/v1/chat/completions and /v1/completions, compatible with OpenAI's, for any model, adapter or checkpoint."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from api.answers import answer
from api.bodies import documented_body, read_as
from api.chat import conversation, text
from api.chat.answers import ChatCompletion, Completion
from api.chat.requests import ChatRequest, CompletionRequest, Sampling
from api.chat.turn import ask
from api.deps import CallerDep, ServiceDep
from api.disconnects import unless_gone
from api.errors import ApiError, ErrorEnvelope, documented

router = APIRouter(tags=["chat"])

_DONE = b"data: [DONE]\n\n"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion; with `stream`, server-sent events with its chunks, ended by `data: [DONE]`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_NO_MEMORY = documented(507)[507] | {
    "description": "The answers need more memory than there is; ask for fewer or shorter ones."
}
_ERRORS = documented(400, 401, 404, 413, 415, 422, 503) | {507: _NO_MEMORY}


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    responses=_STREAM | _ERRORS,
    openapi_extra=documented_body(ChatRequest),
)
async def create_chat_completion(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Answer a conversation with a model."""
    asked = await read_as(ChatRequest, request, service.settings.max_body_bytes)
    turn = await ask(service, caller, asked)
    if not asked.stream:
        return answer(await unless_gone(request, conversation.whole(turn, asked.n)))
    return await _streamed(request, conversation.pieces(turn, asked.n, include_usage=_includes_usage(asked)))


@router.post(
    "/completions",
    response_model=Completion,
    responses=_STREAM | _ERRORS,
    openapi_extra=documented_body(CompletionRequest),
)
async def create_completion(service: ServiceDep, caller: CallerDep, request: Request) -> Response:
    """Continue texts with a model."""
    asked = await read_as(CompletionRequest, request, service.settings.max_body_bytes)
    turn = await ask(service, caller, asked)
    if not asked.stream:
        return answer(await unless_gone(request, text.whole(turn, len(asked.prompts()) * asked.n)))
    return await _streamed(request, text.pieces(turn, include_usage=_includes_usage(asked)))


def _includes_usage(asked: Sampling) -> bool:
    return asked.stream_options is not None and asked.stream_options.include_usage


async def _streamed(request: Request, pieces: AsyncIterator[BaseModel]) -> Response:
    """Return a stream once the first chunk is there: until then, an error still has its own status."""
    first = await unless_gone(request, anext(pieces))
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(first, pieces), media_type="text/event-stream", headers=headers)


async def _frames(first: BaseModel, pieces: AsyncIterator[BaseModel]) -> AsyncIterator[bytes]:
    yield _frame(first)
    try:
        async for piece in pieces:
            yield _frame(piece)
    except ApiError as error:
        yield _frame(ErrorEnvelope(error=error.body))
    yield _DONE


def _frame(piece: BaseModel) -> bytes:
    return b"data: %b\n\n" % piece.model_dump_json().encode()
