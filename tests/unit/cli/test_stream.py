"""Streams as the command line reads them."""

import json

import httpx
import pytest

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.stream import follow_stream, lines_of

# Line ends of Unicode, none of which ends a line of a stream; and characters of several bytes.
TEXTS = ["one\u2028two\u2029three", "one\x85two\x7fthree", "\u00e9\U0001f682"]


def test_a_line_of_a_stream_ends_where_the_stream_says_so() -> None:
    told = [f"data: {json.dumps({'text': text}, ensure_ascii=False)}" for text in TEXTS]
    sent = "".join(f"{line}\n\n" for line in told).encode()
    byte_by_byte = httpx.Response(200, content=(bytes([byte]) for byte in sent))
    assert [line for line in lines_of(byte_by_byte) if line] == told


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    passing = Clock()
    monkeypatch.setattr("cli.stream.time", passing)
    return passing


def frames(*seqs: int, end: str = "") -> httpx.Response:
    return httpx.Response(200, text="".join(f'data: {{"seq": {seq}}}\n\n' for seq in seqs) + end)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_stream_is_taken_up_again_when_the_service_has_come_back(status: int, clock: Clock, serve) -> None:
    answers = [frames(1), httpx.Response(status, headers={"retry-after": "7"}), frames(2, end="data: [DONE]\n\n")]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["after"])
        return answers.pop(0)

    serve(answer)
    assert [record["seq"] for record in follow_stream(Client(), "job-1")] == [1, 2]
    assert asked == ["0", "1", "1"]
    assert clock.slept == [1, 7]


@pytest.mark.parametrize(("asked_for", "waited_s"), [("0", 60), ("7", 56), ("3600", 0), ("tomorrow", 60)])
def test_after_a_minute_it_is_given_up(asked_for: str, waited_s: float, clock: Clock, serve) -> None:
    serve(lambda request: httpx.Response(503, headers={"retry-after": asked_for}))
    with pytest.raises(CommandError, match="answered 503"):
        list(follow_stream(Client(), "job-1"))
    assert clock.now == waited_s


def test_a_service_that_is_gone_for_a_minute_is_unreachable(clock: Clock, serve) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    serve(answer)
    with pytest.raises(CommandError) as caught:
        list(follow_stream(Client(), "job-1"))
    assert caught.value.code is Exit.UNREACHABLE
    assert clock.now == 60


@pytest.mark.parametrize(("status", "code"), [(401, Exit.AUTH), (404, Exit.NOT_FOUND), (500, Exit.UNEXPECTED)])
def test_a_refusal_is_not_waited_out(status: int, code: Exit, clock: Clock, serve) -> None:
    serve(lambda request: httpx.Response(status, json={"error": {"message": "no"}}))
    with pytest.raises(CommandError) as caught:
        list(follow_stream(Client(), "job-1"))
    assert (caught.value.code, clock.slept) == (code, [])


def test_cuts_that_lie_far_apart_are_no_long_absence_though_no_record_came_between(clock: Clock, serve) -> None:
    def heartbeats():
        yield b": heartbeat\n\n"
        clock.now += 3600

    answers = [httpx.Response(200, content=heartbeats()) for _ in range(2)]
    answers.append(frames(1, end="data: [DONE]\n\n"))
    serve(lambda request: answers.pop(0))
    assert [record["seq"] for record in follow_stream(Client(), "job-1")] == [1]
    assert clock.slept == [1, 1]
