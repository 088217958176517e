"""What `status` tells of a service here, and of one elsewhere."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.home import locked, write_state
from cli.main import main


def waiting(place: int) -> dict[str, Any]:
    row = {"id": f"job-{place}", "kind": "sft", "priority": 0, "queue_position": place}
    return row | {"waiting_reason": "no worker is free", "estimated_start_at": None}


def answer(request: httpx.Request) -> httpx.Response:
    """A busy service; a page has as many rows as are asked for."""
    limit = int(request.url.params.get("limit", 20))
    if request.url.path == "/v1/queue":
        told: dict[str, Any] = {"waiting": 137, "data": [waiting(place) for place in range(1, limit + 1)]}
    elif request.url.path == "/v1/workers":
        told = {"data": []}
    elif request.url.params["status"] == "queued":
        told = {"data": [{}] * limit, "has_more": True}
    else:
        told = {"data": [{}] * 2, "has_more": False}
    return httpx.Response(200, json=told)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def running(home: Path) -> Iterator[None]:
    """A supervisor of this home, as it tells of itself."""
    api = {"name": "api", "pid": 7, "started_at": time.time(), "restarts": 0}
    state = {"pid": os.getpid(), "url": "http://here", "started_at": time.time(), "ready": True, "processes": [api]}
    write_state(home, state)
    with locked(home):
        yield


def test_a_service_elsewhere_is_asked_for_its_queue(home: Path, capsys: pytest.CaptureFixture[str], serve) -> None:
    serve(answer)
    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["home"], told["processes"], told["amiss"]) == ("http://service", None, [], None)
    assert (told["queue"]["running"], told["queue"]["queued"], told["at_least"]) == (2, 100, ["queued"])
    assert (len(told["waiting"]), told["waiting_behind"]) == (100, 37)
    assert main(["status"]) == 0
    narrated = capsys.readouterr()
    assert "job-100\t" in narrated.out
    assert "and 37 more behind them" in narrated.err
    assert "100+ queued" in narrated.err


def test_a_service_elsewhere_that_refuses_is_an_error(home: Path, serve) -> None:
    serve(lambda request: httpx.Response(401, json={"error": {"message": "no key"}}))
    assert main(["status"]) == 3


@pytest.mark.usefixtures("running")
def test_the_queue_beside_the_processes_is_that_of_their_service(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, serve
) -> None:
    asked = set()

    def noted(request: httpx.Request) -> httpx.Response:
        asked.add(request.url.host)
        return answer(request)

    serve(noted)
    monkeypatch.delenv("TRAINYARD_URL")
    assert main(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert asked == {"here"}
    assert [row["name"] for row in told["processes"]] == ["supervisor", "api"]
    assert told["home"] == str(home)


@pytest.mark.usefixtures("running")
def test_a_queue_that_cannot_be_told_is_not_told_as_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, serve
) -> None:
    serve(lambda request: httpx.Response(401, json={"error": {"message": "this key is wrong"}}))
    monkeypatch.delenv("TRAINYARD_URL")
    assert main(["status", "--json"]) == 0
    told = capsys.readouterr()
    assert "this key is wrong" in json.loads(told.out)["amiss"]
    assert "this key is wrong" in told.err
    assert len(json.loads(told.out)["processes"]) == 2
