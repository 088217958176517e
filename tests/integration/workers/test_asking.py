"""What becomes of a question that the desk does not answer: some are asked again, some wait, some are the row's error."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db import permissions
from engine.graders import GraderError, Reply, SamplingParams
from tests.integration.workers.workplace import Workplace
from workers import asking

ANSWER = {"part": {"text": "7", "prompt_tokens": 3, "completion_tokens": 1, "finish_reason": "stop"}}


class FakeDesk:
    """Says one thing after the other, a connection each."""

    def __init__(self, path: Path) -> None:
        self.asked = 0
        self.says: list[list[dict[str, Any]]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as lines:
                lines.readline()
                self.asked += 1
                for line in self.says.pop(0):
                    lines.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def desk(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDesk]:
    monkeypatch.setattr(permissions, "usable", lambda *_: SimpleNamespace(id="model-1"))
    workplace.settings.desk_socket.parent.mkdir(parents=True, exist_ok=True)
    fake = FakeDesk(workplace.settings.desk_socket)
    yield fake
    fake.close()


def failed(code: str, failure: str = "worker_lost") -> list[dict[str, Any]]:
    return [{"failed": {"class": failure, "code": code, "message": f"it is {code}.", "mend": "Ask again."}}]


def ask(workplace: Workplace) -> Reply:
    asker = asking.asker(workplace.database, workplace.settings.desk_socket, workplace.project_id, 5.0)
    return asker("m", [{"role": "user", "content": "?"}], SamplingParams())


@pytest.mark.parametrize("code", ["engine_died", "answer_too_slow", "out_of_memory"])
def test_what_may_be_chance_is_asked_again(workplace: Workplace, desk: FakeDesk, code: str) -> None:
    desk.says = [failed(code), [ANSWER, {"end": True}]]
    assert ask(workplace).text == "7"


@pytest.mark.parametrize(
    ("code", "times"),
    [
        ("engine_died", 3),
        ("out_of_memory", 3),
        ("answer_too_slow", 2),
        ("context_length_exceeded", 1),
        ("question_too_large_for_memory", 1),
    ],
)
def test_what_comes_again_is_the_rows_error(workplace: Workplace, desk: FakeDesk, code: str, times: int) -> None:
    desk.says = [failed(code) for _ in range(5)]
    with pytest.raises(GraderError, match=f"it is {code}. Ask again."):
        ask(workplace)
    assert desk.asked == times


@pytest.mark.parametrize(("code", "failure"), [("storage_away", "worker_lost"), ("low_space", "out_of_memory")])
def test_what_any_question_would_meet_is_waited_out(
    workplace: Workplace, desk: FakeDesk, code: str, failure: str
) -> None:
    desk.says = [failed(code, failure)]
    with pytest.raises(asking.DeskAway, match=code):
        ask(workplace)


def test_a_desk_that_ends_in_the_middle_of_an_answer_is_away(workplace: Workplace, desk: FakeDesk) -> None:
    desk.says = [[ANSWER]]
    with pytest.raises(asking.DeskAway, match="in the middle"):
        ask(workplace)


def test_a_desk_that_ends_with_its_engine_is_away(workplace: Workplace, desk: FakeDesk) -> None:
    desk.says = [failed("engine_died"), []]
    with pytest.raises(asking.DeskAway):
        ask(workplace)
