"""What the API makes of the parts of an answer, and of what its clients send."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from pydantic import ValidationError

from api.chat import conversation, text
from api.chat.answers import Weights
from api.chat.requests import ChatRequest, CompletionRequest
from api.chat.turn import Turn
from api.desk import MOST_QUESTION_BYTES, Desk
from api.errors import ApiError

ASKED = [{"role": "user", "content": "a"}]


def turn(*parts: dict[str, Any]) -> Turn:
    async def told() -> AsyncIterator[dict[str, Any]]:
        for part in ({"prompt_tokens": 1}, *parts, {"completion_tokens": len(parts)}):
            yield part

    weights = Weights(id="art-1", reference="tiny/1", digest="0", base=None)
    return Turn({"id": "1", "created": 0, "model": "m", "system_fingerprint": "fp", "weights": weights}, told())


def likely(token: str, spelt: list[int] | None, logprob: float = -1.0) -> dict[str, Any]:
    return {"token": token, "bytes": spelt, "logprob": logprob}


def part(said: str, written: dict[str, Any], *top: dict[str, Any], end: str | None = None) -> dict[str, Any]:
    return {"index": 0, "text": said, "finish_reason": end, "logprobs": written | {"top": list(top)}}


C3, A9, A8 = likely("\\xc3", [0xC3]), likely("\\xa9", [0xA9]), likely("\\xa8", [0xA8], -2.0)
END = likely("<|end|>", None)


def test_the_bytes_of_a_character_are_told_token_by_token():
    answer = asyncio.run(conversation.whole(turn(part("", C3), part("é", A9), part("", END, end="stop")), 1))
    (choice,) = answer.choices
    assert choice.logprobs is not None
    assert (
        bytes(b for one in choice.logprobs.content for b in one.bytes or ()).decode() == choice.message.content == "é"
    )


def test_likeliest_tokens_that_are_no_text_do_not_overwrite_one_another_and_the_one_written_is_among_them():
    answer = asyncio.run(text.whole(turn(part("", C3), part("é", A8, A9, A8 | {"token": "a", "bytes": [97]})), 1))
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["bytes:\\xc3", "bytes:\\xa8"]
    assert logprobs.top_logprobs == [{"bytes:\\xc3": -1.0}, {"bytes:\\xa9": -1.0, "a": -2.0, "bytes:\\xa8": -2.0}]


HELD_BACK = [
    part("a", likely("a", [97])),
    part("", likely("\n", [10])),
    part("", C3),
    part("", A9),
    part("\néb", likely("b", [98])),
    part("c", likely("c", [99])),
    part("", END, end="stop"),
]
"""As with a stop string that begins with "\né"."""


def test_offsets_are_those_of_the_tokens_also_where_their_text_was_held_back():
    logprobs = asyncio.run(text.whole(turn(*HELD_BACK), 1)).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset == [0, 1, 2, 2, 3, 4, 5]


def test_offsets_in_a_stream_go_on_from_chunk_to_chunk():
    async def offsets() -> list[int]:
        chunks = [chunk async for chunk in text.pieces(turn(*HELD_BACK), include_usage=False)]
        return [at for chunk in chunks for at in getattr(chunk.choices[0].logprobs, "text_offset", [])]

    assert asyncio.run(offsets()) == [0, 1, 2, 2, 3, 4, 5]


def test_a_question_that_the_desk_would_not_read_is_refused_before_it_is_asked(tmp_path):
    asked = {"messages": [{"role": "user", "content": "é" * (MOST_QUESTION_BYTES // 6)}]}
    with pytest.raises(ApiError) as refused:
        asyncio.run(Desk(tmp_path / "no.sock").answer(asked))
    assert (refused.value.status_code, refused.value.body.code) == (413, "question_too_large")


@pytest.mark.parametrize(
    ("failure", "code", "status", "headers"),
    [
        ("out_of_memory", "out_of_memory", 507, {"Retry-After": "30"}),
        ("out_of_memory", "question_too_large_for_memory", 507, {"x-should-retry": "false"}),
        ("worker_lost", "engine_died", 503, {"Retry-After": "5"}),
        ("worker_lost", "answer_too_slow", 503, {"x-should-retry": "false"}),
    ],
)
def test_clients_ask_again_unless_the_answer_would_be_the_same(tmp_path, monkeypatch, failure, code, status, headers):
    failed = {"class": failure, "code": code, "message": "no room", "mend": "Ask for less."}

    async def asked() -> None:
        answers = asyncio.StreamReader()
        answers.feed_data(json.dumps({"failed": failed}).encode() + b"\n")
        monkeypatch.setattr(Desk, "_connect", AsyncMock(return_value=(answers, AsyncMock(write=Mock(), close=Mock()))))
        await Desk(tmp_path / "no.sock").answer({})

    with pytest.raises(ApiError) as refused:
        asyncio.run(asked())
    assert (refused.value.status_code, refused.value.body.code, refused.value.headers) == (status, code, headers)


TURNS_OF_A_CLIENT = [
    {"role": "user", "content": "a", "name": "ann"},
    {
        "role": "assistant",
        "content": "b",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    },
    {"role": "assistant", "content": None, "annotations": None},
]
"""The second as a client's `choice.message.model_dump()` has it."""


def test_turns_are_taken_as_a_client_writes_them():
    question = ChatRequest.model_validate({"model": "m", "messages": TURNS_OF_A_CLIENT}).question()
    assert question["messages"] == [
        {"role": "user", "content": "a", "name": "ann"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": ""},
    ]


NOT_DONE = [
    "tools", "tool_choice", "parallel_tool_calls", "functions",
    "function_call", "logit_bias", "modalities", "audio",
    "prediction", "reasoning_effort", "service_tier", "verbosity",
    "web_search_options", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
]  # fmt: skip


def test_null_for_what_is_not_done_here_is_what_is_left_out():
    asked = ChatRequest.model_validate({"model": "m", "messages": ASKED} | dict.fromkeys(NOT_DONE))
    assert asked.question() == ChatRequest.model_validate({"model": "m", "messages": ASKED}).question()
    CompletionRequest.model_validate({"model": "m", "prompt": "a", "suffix": None, "logit_bias": None})


@pytest.mark.parametrize(
    "given",
    [
        {"logit_bias": {}},
        {"tools": []},
        {"logprobs": False, "top_logprobs": 0},
        {"messages": [*ASKED, {"role": "assistant", "content": "b", "tool_calls": []}]},
    ],
)
def test_what_is_empty_changes_nothing_and_is_allowed(given):
    ChatRequest.model_validate({"model": "m", "messages": ASKED} | given)


@pytest.mark.parametrize("prompt", [[True, False], [[1], [True]], [1, "2"], [1.5]])
def test_tokens_are_integers(prompt):
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "m", "prompt": prompt})
    assert CompletionRequest.model_validate({"model": "m", "prompt": [1, 2.0]}).prompts() == [[1, 2]]


@pytest.mark.parametrize(
    "given",
    [
        {"messages": ASKED, "tools": [{}]},
        {"messages": ASKED, "tools": False},
        {"messages": ASKED, "top_logprobs": 1},
        {"messages": ASKED, "logit_bias": {"1": 1}},
        {"messages": ASKED, "tempature": None},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
        {"messages": [{"role": "assistant", "content": "a", "annotations": [{}]}]},
    ],
)
def test_what_would_be_passed_over_in_silence_is_refused(given):
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({"model": "m"} | given)
