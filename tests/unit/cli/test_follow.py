"""Waiting for a job: a service that is away for a moment ends nothing, and nothing that is told gives orders."""

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console

from cli.client import Client
from cli.errors import CommandError, Exit
from cli.jobs.follow import LiveView, await_end
from cli.main import main

JOB = f"job-{'0' * 26}"
DONE = {"id": JOB, "status": "succeeded"}


def standing(status: str) -> httpx.Response:
    return httpx.Response(200, json={"id": JOB, "status": status})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that is made, none of which takes time."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


def test_a_restart_and_too_many_questions_are_waited_out(slept: list[float], serve) -> None:
    away = httpx.ConnectError("refused")
    answers = [
        standing("running"),
        away,
        httpx.Response(429, headers={"retry-after": "3"}),
        httpx.Response(503),
        standing("succeeded"),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        told = answers.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    serve(answer)
    assert await_end(Client(), JOB) == DONE
    assert slept[1:] == [1, 3, 1]


def test_a_long_job_is_asked_about_less_and_less_often(slept: list[float], serve) -> None:
    answers = [*["running"] * 20, "succeeded"]
    serve(lambda request: standing(answers.pop(0)))
    await_end(Client(), JOB)
    assert 0.5 <= slept[0] < 1
    assert slept[10:] == [2] * 10


@pytest.mark.parametrize(("answer", "told"), [(503, "out of reach"), (200, "running")])
def test_the_time_that_was_given_is_over_also_while_the_service_is_away(
    answer: int, told: str, slept: list[float], serve
) -> None:
    serve(lambda request: httpx.Response(answer, json={"id": JOB, "status": "running"}))
    with pytest.raises(CommandError, match=f"is still {told} after 0 s") as caught:
        await_end(Client(), JOB, 0)
    assert caught.value.code is Exit.TIMED_OUT
    assert slept == []


def test_what_is_no_job_is_told(serve) -> None:
    serve(lambda request: httpx.Response(200, text="<html>"))
    with pytest.raises(CommandError, match="<html>"):
        await_end(Client(), JOB)


def test_what_a_job_says_gives_the_terminal_no_orders() -> None:
    screen = io.StringIO()
    LiveView(type("Live", (), {"console": Console(file=screen)})()).message("a\x1b]0;owned\x07b")
    assert screen.getvalue() == "  a\ufffd]0;owned\ufffdb\n"


def interrupted(seconds: float) -> None:
    raise KeyboardInterrupt


def test_the_evaluation_behind_tokens_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    evaluation = f"job-{'1' * 26}"
    spec = {"model": "tiny", "hyperparameters": {"max_length": 8, "long_rows": "cut", "precision": "fp32"}}
    there: dict[str, Any] = {
        f"/v1/jobs/{JOB}": {"id": JOB, "spec": spec},
        f"/v1/jobs/{JOB}/steps/1/rows": {"data": [{"file": "file-a", "line": 3}]},
        f"/v1/jobs/{JOB}/checkpoints": {"data": [], "has_more": False},
        "/v1/jobs": {"id": evaluation, "status": "queued", "waiting_reason": "no worker"},
        f"/v1/jobs/{evaluation}": {"id": evaluation, "status": "running"},
    }
    serve(lambda request: httpx.Response(200, json=there[request.url.path]))
    monkeypatch.setattr("time.sleep", interrupted)
    assert main(["jobs", "tokens", JOB, "1"]) == 130
    told = capsys.readouterr().err
    assert f"{evaluation} queued: no worker" in told
    assert f"Detached; {evaluation} goes on." in told


@pytest.mark.parametrize("command", [["jobs", "wait", JOB], ["jobs", "logs", "-f", JOB, "--jsonl"]])
def test_ctrl_c_leaves_a_job_alone_and_says_so(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(lambda request: standing("running") if request.url.path.endswith(JOB) else httpx.Response(503))
    monkeypatch.setattr("time.sleep", interrupted)
    assert main(command) == 130
    assert f"Detached; {JOB} goes on." in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["jobs", "create", "-f", "-"], ["jobs", "clone", JOB], ["evals", "run", "tiny", "rows.jsonl"]],
)
def test_options_that_exclude_each_other_are_told_before_anything_is_sent(
    command: list[str], capsys: pytest.CaptureFixture[str], serve
) -> None:
    serve(lambda request: pytest.fail(f"{request.url} was asked for"))
    assert main([*command, "--jsonl"]) == 2
    assert "--jsonl prints the stream of --follow" in capsys.readouterr().err


def test_a_plan_is_found_by_the_begin_of_its_id(capsys: pytest.CaptureFixture[str], serve) -> None:
    plan = f"plan-{'7' * 26}"
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/plans":
            return httpx.Response(200, json={"data": [{"id": plan}]})
        sent.append(json.loads(request.content))
        return httpx.Response(201, json={"id": JOB, "status": "queued"})

    serve(answer)
    assert main(["jobs", "create", "--plan", "777", "-q"]) == 0
    assert sent == [{"plan_id": plan}]


def test_what_was_done_is_told_though_the_next_order_is_refused(capsys: pytest.CaptureFixture[str], serve) -> None:
    other = f"job-{'1' * 26}"

    def answer(request: httpx.Request) -> httpx.Response:
        if other in request.url.path:
            return httpx.Response(409, json={"error": {"message": "has ended"}})
        return httpx.Response(200, json={"id": JOB, "status": "cancelled", "waiting_reason": None})

    serve(answer)
    assert main(["jobs", "cancel", JOB, other, "--json"]) == 65
    told = capsys.readouterr()
    assert JOB in told.out
    assert "has ended" in told.err
