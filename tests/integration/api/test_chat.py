"""Chat and completions over HTTP: a real desk, a real engine, a base and an adapter over it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.stream import lines_of
from engine import process
from engine.stop import StopFlag
from tests import runs
from tests.e2e.service import run_trainyard
from tests.integration.api.desk import at_the_desk, publish
from tests.integration.api.live import Live, error
from workers.desk import Desk

ASKED = [{"role": "user", "content": "the cat sees"}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has made an adapter which answers otherwise than its base."""
    root = runs.sft_run(tmp_path_factory.mktemp("trained") / "run", spec=runs.sft_spec(max_steps=20))
    assert process.carry_out(root, StopFlag()) == 0
    return root


@pytest.fixture(scope="module")
def desk(live: Live, trained: Path) -> Iterator[Desk]:
    base = publish(live, trained / "model", "tiny")
    publish(live, trained / "output", "tuned", "adapter", base.id)
    with at_the_desk(live) as running:
        yield running


def chat(live: Live, model: str = "tuned", **given: Any) -> dict[str, Any]:
    body = {"model": model, "messages": ASKED, "temperature": 0, "max_tokens": 12, **given}
    answer = live.mine.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(answer: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def frames(live: Live, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with live.mine.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in lines_of(answer) if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_answer_names_the_weights_that_gave_it(live: Live, desk):
    tuned, base = chat(live), chat(live, "tiny/1")
    assert said(tuned) != said(base)
    adapter = live.mine.get("/v1/adapters/tuned").json()
    assert (tuned["weights"]["digest"], tuned["weights"]["base"]["digest"]) == (
        adapter["digest"],
        base["weights"]["digest"],
    )
    assert tuned["system_fingerprint"] == f"fp_{adapter['digest'][:16]}"
    assert base["weights"]["base"] is None
    assert tuned["usage"]["total_tokens"] == tuned["usage"]["prompt_tokens"] + tuned["usage"]["completion_tokens"]


def test_null_is_what_is_left_out_as_openais_clients_send_it(live: Live, desk):
    null = dict.fromkeys(("temperature", "top_p", "n", "stop", "num_beams", "length_penalty"))
    assert said(chat(live, seed=3, **null)) == said(chat(live, seed=3, temperature=1))
    body = {"model": "tuned", "prompt": "the", "temperature": 0}
    text = live.mine.post("/v1/completions", json=body | {"max_tokens": None}).json()
    assert text["usage"]["completion_tokens"] == 16


def test_an_answer_goes_back_as_a_turn_just_as_it_came(live: Live, desk):
    (choice,) = chat(live)["choices"]
    choice["message"] |= dict.fromkeys(
        ("audio", "function_call", "tool_calls", "annotations")
    )  # a client's model_dump()
    answer = chat(live, messages=[*ASKED, choice["message"], *ASKED], tools=None, logit_bias=None)
    assert answer["usage"]["prompt_tokens"] > chat(live)["usage"]["prompt_tokens"]


def test_the_base_answers_the_same_before_and_after_an_adapter_over_it(live: Live, desk):
    before = said(chat(live, "tiny"))
    chat(live, "tuned")
    assert said(chat(live, "tiny")) == before


def test_a_stream_tells_the_same_piece_by_piece(live: Live, desk):
    whole = chat(live, n=2, logprobs=True, top_logprobs=2)
    body = {"model": "tuned", "messages": ASKED, "temperature": 0, "max_tokens": 12, "n": 2, "logprobs": True}
    told = frames(live, "/v1/chat/completions", body | {"top_logprobs": 2, "stream_options": {"include_usage": True}})
    assert told[-1]["usage"] == whole["usage"]
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    for index in range(2):
        choices = [choice for frame in told for choice in frame["choices"] if choice["index"] == index]
        assert "".join(choice["delta"]["content"] for choice in choices) == said(whole)[index]
        assert choices[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]
        scored = [one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]]
        assert scored == whole["choices"][index]["logprobs"]["content"]
    assert {frame["weights"]["digest"] for frame in told} == {whole["weights"]["digest"]}


def test_the_tokens_of_an_answer_are_told_by_bytes_that_together_are_its_text(live: Live, desk):
    (choice,) = chat(live, "tiny", temperature=2, seed=1, max_tokens=100, logprobs=True)["choices"]
    spelt = [one["bytes"] for one in choice["logprobs"]["content"]]
    assert "\ufffd" in choice["message"]["content"]
    assert bytes(byte for each in spelt for byte in each or ()).decode(errors="replace") == choice["message"]["content"]


def test_a_seed_draws_the_same_answers_again_and_its_choices_differ(live: Live, desk):
    drawn = said(chat(live, temperature=1.5, seed=7, n=4))
    assert said(chat(live, temperature=1.5, seed=7, n=4)) == drawn
    assert len(set(drawn)) > 1
    assert said(chat(live, temperature=1.5, seed=8, n=4)) != drawn


def test_an_answer_ends_before_a_stop_string(live: Live, desk):
    (full,) = said(chat(live, max_tokens=40))
    stop = full[3:6]
    answer = chat(live, max_tokens=40, stop=stop)
    assert said(answer) == [full[: full.index(stop)]]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_texts_and_tokens_are_gone_on_with(live: Live, desk):
    body = {"model": "tiny", "prompt": ["the cat", "a dog"], "temperature": 0, "max_tokens": 5, "n": 2, "logprobs": 1}
    answer = live.mine.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    assert told["choices"][0]["text"] == told["choices"][1]["text"] != told["choices"][2]["text"]
    logprobs = told["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == 5
    for token, logprob, likeliest in zip(
        *(logprobs[name] for name in ("tokens", "token_logprobs", "top_logprobs")), strict=True
    ):
        assert likeliest[token] == logprob
    pieces = frames(live, "/v1/completions", {**body, "n": 1})
    first = "".join(choice["text"] for piece in pieces for choice in piece["choices"] if choice["index"] == 0)
    assert first == told["choices"][0]["text"]
    by_tokens = {"model": "tiny", "prompt": [0, 20, 21], "temperature": 0, "max_tokens": 3}
    assert live.mine.post("/v1/completions", json=by_tokens).json()["usage"]["prompt_tokens"] == 3


def test_after_a_kill_the_next_question_has_its_answer(live: Live, desk: Desk):
    before = said(chat(live))
    pid = desk.engines["chat"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert said(chat(live)) == before


def test_a_client_that_leaves_in_the_middle_holds_nobody_up(live: Live, desk: Desk):
    body = {"model": "tiny", "messages": ASKED, "temperature": 1.0, "max_tokens": 200, "stream": True}
    with live.mine.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(lines_of(answer))
        pid = desk.engines["chat"].pid
    assert chat(live)["choices"]
    assert desk.engines["chat"].pid == pid


def test_questions_of_the_same_weights_and_of_others_are_answered_beside_a_long_one(live: Live, desk: Desk):
    """What they say is compared in the engine's own tests, in fp32: in bf16 a token beside others may round otherwise."""
    body = {"model": "tiny", "messages": ASKED, "temperature": 1, "n": 8, "max_tokens": 200, "stream": True}
    with (
        httpx.Client(base_url=live.mine.base_url, headers=live.mine.headers, timeout=60) as other,
        live.mine.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        lines = (line.removeprefix("data: ") for line in lines_of(answer) if line)
        heard = [next(lines)]
        for model in ("tiny", "tuned"):
            asked = {"model": model, "messages": ASKED, "temperature": 0, "max_tokens": 12}
            assert other.post("/v1/chat/completions", json=asked).json()["usage"]["completion_tokens"] > 0
        heard += lines
    assert heard.pop() == "[DONE]"
    choices = [choice for line in heard for choice in json.loads(line)["choices"]]
    assert sorted(choice["index"] for choice in choices if choice["finish_reason"]) == list(range(8))


def test_a_beam_search_finds_answers_that_differ_and_the_likeliest_comes_first(live: Live, desk):
    asked = {"temperature": 0, "num_beams": 4, "n": 3, "logprobs": True, "top_logprobs": 1}
    answer = chat(live, **asked)
    assert len(set(said(answer))) == 3
    scores = [[one["logprob"] for one in choice["logprobs"]["content"]] for choice in answer["choices"]]
    means = [sum(each) / len(each) for each in scores]
    assert means == sorted(means, reverse=True)
    told = frames(live, "/v1/chat/completions", {"model": "tuned", "messages": ASKED, "max_tokens": 12, **asked})
    first = [choice["delta"]["content"] for frame in told for choice in frame["choices"] if choice["index"] == 0]
    assert "".join(first) == said(answer)[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_beams": 2, "n": 3}, "n is 3"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p"),
        ({"length_penalty": 2.0}, "num_beams"),
    ],
)
def test_what_a_search_cannot_do_is_refused(live: Live, given: dict[str, Any], told: str):
    answer = live.mine.post("/v1/chat/completions", json={"model": "tuned", "messages": ASKED, **given})
    assert told in error(answer, 422)["message"]


@pytest.mark.parametrize("prompt", [[], ["a"] * 17, [[1]] * 17])
def test_no_prompt_or_too_many_are_refused_in_one_sentence(live: Live, prompt):
    told = error(live.mine.post("/v1/completions", json={"model": "tiny", "prompt": prompt}), 422)
    assert (told["param"], told["message"]) == ("prompt", "prompt: 1 to 16 prompts can be answered at once")


def test_a_prompt_beyond_the_positions_is_a_400_that_says_how_long_it_is(live: Live, desk):
    long = [{"role": "user", "content": "the cat " * 400}]
    for stream in (False, True):
        body = {"model": "tiny", "messages": long, "stream": stream}
        answer = live.mine.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_that_the_model_has_not_is_a_400_that_says_which(live: Live, desk, token: int):
    answer = live.mine.post("/v1/completions", json={"model": "tiny", "prompt": [20, token, 21], "max_tokens": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_prompt")
    assert f"token 2 of a prompt is {token}," in answer.json()["error"]["message"]


@pytest.mark.parametrize("client", ["mine", "theirs"])
def test_a_model_that_is_not_there_is_a_404(live: Live, desk, client):
    name = {"mine": "tuneed", "theirs": "tuned"}[client]
    answer = getattr(live, client).post("/v1/chat/completions", json={"model": name, "messages": ASKED})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert ("did you mean 'tuned'" in answer.text) == (client == "mine")


PLAIN = ("--temperature", "0", "--max-tokens", "12")
"""As `chat` asks."""


def typed(live: Live, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`trainyard chat` at this service."""
    key = live.mine.headers["authorization"].removeprefix("Bearer ")
    return run_trainyard({**os.environ, "TRAINYARD_URL": live.url, "TRAINYARD_API_KEY": key}, "chat", *arguments)


def test_the_command_writes_the_answer_and_tells_the_digest_beside_it(live: Live, desk):
    answer = chat(live)
    done = typed(live, "tuned", ASKED[0]["content"], *PLAIN)
    assert (done.returncode, done.stdout) == (0, said(answer)[0] + "\n")
    assert done.stderr == f"tuned/1  {answer['weights']['digest']}\n"


def test_the_command_shows_an_adapter_and_its_base_under_their_names(live: Live, desk):
    answers = chat(live), chat(live, "tiny")
    compared = ("--adapter", "tuned", "--compare-base", ASKED[0]["content"], *PLAIN)
    heads = [f"{answer['weights']['reference']}  {answer['weights']['digest']}\n" for answer in answers]
    shown = [f"{head}{said(answer)[0]}\n" for head, answer in zip(heads, answers, strict=True)]
    assert typed(live, *compared).stdout == "".join(shown)
    told = json.loads(typed(live, *compared, "--json").stdout)
    for part in ("choices", "weights"):
        assert [answer[part] for answer in told] == [answer[part] for answer in answers]


@pytest.mark.parametrize(
    ("given", "code"),
    [(["tuneed", "hello"], 4), (["--adapter", "tiny", "hello"], 4), (["tuned", "hello", "--max-tokens", "0"], 65)],
)
def test_the_command_ends_with_the_code_of_what_is_wrong(live: Live, desk, given: list[str], code: int):
    assert typed(live, *given).returncode == code
