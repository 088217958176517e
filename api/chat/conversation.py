"""Chat completions: the engine's parts as one object, or as the chunks of a stream."""

from collections.abc import AsyncIterator
from typing import Any

from api.chat.answers import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatLogprobs,
    ChunkChoice,
    Delta,
    Likely,
    TokenLogprob,
)
from api.chat.turn import Turn, usage


async def whole(turn: Turn, n: int) -> ChatCompletion:
    """Return the answers once all are written."""
    texts = [""] * n
    scored: list[list[TokenLogprob]] = [[] for _ in range(n)]
    ends: dict[int, Any] = {}
    counts: dict[str, int] = {}
    async for part in turn.parts:
        if "index" not in part:
            counts |= part
            continue
        index = part["index"]
        texts[index] += part["text"]
        scored[index] += _scored(part)
        ends[index] = part["finish_reason"]
    choices = [
        ChatChoice(
            index=index,
            message=AssistantMessage(content=text),
            logprobs=ChatLogprobs(content=scored[index]) if scored[index] else None,
            finish_reason=ends[index],
        )
        for index, text in enumerate(texts)
    ]
    return ChatCompletion(**turn.facts, choices=choices, usage=usage(**counts))


async def pieces(turn: Turn, n: int, *, include_usage: bool) -> AsyncIterator[ChatCompletionChunk]:
    """Yield chunks of the answers as they are written: first the role, then the text, then the finish reason."""
    counts: dict[str, int] = {}
    async for part in turn.parts:
        if "index" in part:
            delta = Delta(content=part["text"])
            logprobs = ChatLogprobs(content=_scored(part)) if "logprobs" in part else None
            if part["text"] or logprobs or part["finish_reason"]:
                yield _chunk(turn, part["index"], delta, logprobs, part["finish_reason"])
            continue
        if not counts:
            for index in range(n):
                yield _chunk(turn, index, Delta(role="assistant", content=""), None, None)
        counts |= part
    if include_usage:
        yield ChatCompletionChunk(**turn.facts, choices=[], usage=usage(**counts))


def _chunk(turn: Turn, index: int, delta: Delta, logprobs: ChatLogprobs | None, end: Any) -> ChatCompletionChunk:
    choice = ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=end)
    return ChatCompletionChunk(**turn.facts, choices=[choice])


def _scored(part: dict[str, Any]) -> list[TokenLogprob]:
    logprobs = part.get("logprobs")
    if logprobs is None:
        return []
    likeliest = [_likely(token) for token in logprobs["top"]]
    return [TokenLogprob(**_likely(logprobs).model_dump(), top_logprobs=likeliest)]


def _likely(token: dict[str, Any]) -> Likely:
    return Likely(token=token["token"], logprob=token["logprob"], bytes=token["bytes"])
