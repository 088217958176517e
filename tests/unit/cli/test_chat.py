"""What is refused before anybody is asked, and what is refused then."""

import io
import json

import httpx
import pytest

from cli.chat import Conversation, _converse
from cli.client import Client
from cli.errors import CommandError, Exit
from cli.main import main


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "--adapter"),
        (["tiny", "hello", "there"], "quote the message"),
        (["tiny", "hello", "--adapter", "tuned"], "leave MODEL out"),
        (["tiny", "hello", "--compare-base"], "needs --adapter"),
        (["tiny", " "], "message is empty"),
        (["tiny", "caf\udce9"], "not UTF-8: character 4"),
        (["tiny", "hello", "--temperature", "nan"], "not a finite number"),
    ],
)
def test_a_call_that_cannot_be_answered_says_how_to_mend_it(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("piped", "told"), [(b"\n", "message is empty"), (b"caf\xe9", "not UTF-8: character 4")])
def test_what_is_piped_in_has_to_be_a_message(
    piped: bytes, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped)))
    assert main(["chat", "tiny"]) == 2
    assert told in capsys.readouterr().err


def test_an_adapter_is_found_by_the_begin_of_its_id(capsys: pytest.CaptureFixture[str], serve) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/adapters":
            return httpx.Response(200, json={"data": [{"id": "adapter-7a", "reference": "tuned/1"}]})
        asked.append(json.loads(request.content)["model"])
        weights = {"id": "adapter-7a", "reference": "tuned/1", "digest": "d"}
        return httpx.Response(200, json={"weights": weights, "choices": [{"message": {"content": "fine"}}]})

    serve(answer)
    assert main(["chat", "--adapter", "adapter-7", "how are you?", "--json"]) == 0
    assert asked == ["tuned/1"]


def conversed(*lines: str) -> None:
    typed = iter([*lines, ""])
    talk = Conversation(Client(), "tiny", {}, compare_base=False, as_json=True, as_jsonl=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.chat._typed", lambda: next(typed))
        _converse(talk)


def test_a_refused_turn_ends_no_conversation(capsys: pytest.CaptureFixture[str], serve) -> None:
    refused = httpx.Response(503, json={"error": {"message": "the desk is away\x1b[2J"}})
    weights = {"id": "model-1", "reference": "tiny/1", "digest": "d"}
    whole = httpx.Response(200, json={"weights": weights, "choices": [{"message": {"content": "fine"}}]})
    answers, asked = [whole, refused, whole], []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append([message["content"] for message in json.loads(request.content)["messages"]])
        return answers.pop(0)

    serve(answer)
    conversed("one", "two", "caf\udce9", "three")
    assert asked == [["one"], ["one", "fine", "two"], ["one", "fine", "three"]]
    told = capsys.readouterr().err
    assert "the desk is away\ufffd[2J" in told
    assert "not UTF-8" in told


@pytest.mark.parametrize(("status", "code"), [(401, Exit.AUTH), (404, Exit.NOT_FOUND)])
def test_a_refusal_that_the_next_line_would_meet_as_well_ends_a_conversation(status: int, code: Exit, serve) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json={"error": {"message": "no"}})

    serve(answer)
    with pytest.raises(CommandError) as caught:
        conversed("one", "two")
    assert (caught.value.code, len(asked)) == (code, 1)


def test_a_refusal_is_told_with_its_mend(capsys: pytest.CaptureFixture[str], serve) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    serve(answer)
    conversed("one")
    told = capsys.readouterr().err
    assert "does not answer" in told
    assert "`trainyard up` starts it here" in told
