"""Who leaves before the answer holds up nobody: the engine is asked to stop. Nor does a question take for ever."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from starlette.requests import ClientDisconnect

from api.auth import Caller
from api.openai.graders.asking import Asking
from engine.graders import SamplingParams
from tests.integration.api.desk import at_the_desk
from tests.integration.api.live import Live, pretrain_spec, published, text_file, until
from workers import resident
from workers.desk import Desk

SPEAKER = """
import json, pathlib, sys
asked, stopped = map(pathlib.Path, sys.argv[1:3])
for line in sys.stdin:
    asked.touch()
    sys.stdin.readline()
    stopped.touch()
    print(json.dumps({"id": json.loads(line)["id"], "end": True}), flush=True)
"""
"""Has no answer until it is asked to stop."""
BODIES = {
    "/v1/preview": {},
    "/v1/jobs?dry_run=true": {},
    "/v1/chat/completions": {"model": "slow", "messages": [{"role": "user", "content": "a"}]},
    "/v1/completions": {"model": "slow", "prompt": "a", "stream": True},
    "/v1/fine_tuning/alpha/graders/run": {
        "grader": {
            "type": "score_model", "name": "s", "model": "slow", "input": [{"role": "user", "content": "a"}]
        },
        "model_sample": "a",
    },
}  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """There when the engine has the question."""
    return tmp_path / "asked"


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """There when the engine was asked to stop."""
    return tmp_path / "stopped"


@pytest.fixture
def desk(live: Live, tmp_path: Path, asked: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    script = tmp_path / "speaker.py"
    script.write_text(SPEAKER)
    monkeypatch.setattr(resident, "ENGINE", (sys.executable, str(script), str(asked), str(stopped)))
    with at_the_desk(live) as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
def test_the_question_of_a_client_that_leaves_is_stopped(live: Live, desk: Desk, asked: Path, stopped: Path, path: str):
    if "slow" in json.dumps(BODIES[path]):
        published(live, "slow", {"config.json": b"{}"})
    spec = pretrain_spec(text_file(live.mine))
    body = BODIES[path] or ({"spec": spec} if path == "/v1/preview" else spec)
    with closing(HTTPConnection(live.mine.base_url.host, live.mine.base_url.port)) as client:
        headers = {"Authorization": live.mine.headers["Authorization"], "Content-Type": "application/json"}
        client.request("POST", path, json.dumps(body), headers)
        until(asked.exists)
    until(stopped.exists)


def test_a_request_that_is_over_asks_nothing_more(live: Live, desk: Desk, asked: Path):
    published(live, "slow", {"config.json": b"{}"})

    async def late() -> None:
        with Asking(live.service, Caller("key", live.project_id)) as asking:
            pass
        await to_thread.run_sync(asking.ask, "slow", [{"role": "user", "content": "a"}], SamplingParams())

    with pytest.raises(ClientDisconnect):
        anyio.run(late)
    assert not asked.exists()


def test_a_question_without_an_answer_in_time_is_a_503_that_says_so(live: Live, desk: Desk, stopped: Path):
    desk._settings.desk_answer_s = 3.0
    answer = live.mine.post("/v1/preview", json={"spec": pretrain_spec(text_file(live.mine))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "answer_too_slow")
    until(stopped.exists)
