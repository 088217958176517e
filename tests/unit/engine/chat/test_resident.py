"""The resident engine at its pipes: every question has one end, in whatever order questions and stops come."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import resident
from engine.chat import talks
from engine.chat.talk import Talk
from engine.chat.weights import Weights
from engine.generation.generate import Batch
from engine.precision import Machine
from tests import runs
from tests.unit.engine.chat.test_talks import asked


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resident")
    runs.save_base(folder / "model")
    return folder


class Engine:
    """One that answers in a thread of its own."""

    def __init__(self) -> None:
        (questions, self._ask), (self._hear, answers) = os.pipe(), os.pipe()
        self._asking, self._hearing = os.fdopen(self._ask, "w"), os.fdopen(self._hear)
        self._files = os.fdopen(questions), os.fdopen(answers, "w")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._files[0], self._files[1]:
            resident.serve(*self._files)

    def say(self, *lines: dict[str, Any]) -> None:
        """All at once, as they lie in a pipe."""
        self._asking.write("".join(json.dumps(line) + "\n" for line in lines))
        self._asking.flush()

    def line(self) -> dict[str, Any]:
        return json.loads(self._hearing.readline())

    def end(self) -> list[dict[str, Any]]:
        """No more questions; what has not been heard yet."""
        self._asking.close()
        with self._hearing:
            rest = [json.loads(line) for line in self._hearing]
        self._thread.join()
        return rest


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    weights = Weights(Machine.choose("cpu", "fp32"))
    monkeypatch.setattr(resident, "_weights", lambda: weights)
    monkeypatch.setitem(resident._AT_ONCE, "preview", lambda told, stop: {"rows": told["rows"]})
    return Engine()


def question(number: int, place: Path, **more: Any) -> dict[str, Any]:
    return asked(place, **more) | {"id": number}


def ends(lines: list[dict[str, Any]]) -> list[int]:
    return [line["id"] for line in lines if "part" not in line]


def test_all_that_was_asked_is_answered_before_the_end(engine: Engine, place: Path):
    engine.say(*(question(number, place, max_tokens=5 * number) for number in (1, 2, 3)))
    assert ends(engine.end()) == [1, 2, 3]


def test_a_preview_is_answered_between_the_steps_of_an_answer(engine: Engine, place: Path):
    engine.say(question(1, place, max_tokens=150, n=2))
    heard = [engine.line()]
    engine.say({"id": 2, "ask": "preview", "rows": 7})
    heard += engine.end()
    assert {"id": 2, "part": {"rows": 7}} in heard
    assert ends(heard) == [2, 1]


def test_stops_of_what_goes_on_what_waits_what_has_ended_and_what_was_never_asked(engine: Engine, place: Path):
    engine.say(question(1, place, max_tokens=2), *({"ask": "stop", "id": number} for number in (8, 1)))
    engine.say(question(2, place, n=60, max_tokens=200), question(3, place, n=60, max_tokens=200))
    while engine.line()["id"] != 2:
        pass
    engine.say({"ask": "stop", "id": 3}, {"ask": "stop", "id": 1}, question(4, place, max_tokens=1))
    heard = [engine.line()]
    while 4 not in ends(heard):
        heard.append(engine.line())
    engine.say({"ask": "stop", "id": 2})
    heard += engine.end()
    assert sorted(ends(heard)) == [2, 3, 4]
    assert [line for line in heard if line["id"] == 3] == [{"id": 3, "end": True}]  # it never began


def test_one_without_room_is_overtaken_but_not_for_ever(engine: Engine, place: Path, monkeypatch):
    monkeypatch.setattr(resident, "_MOST_OVERTAKEN", 2)
    wide, small = (
        question(2, place, n=62, max_tokens=2),
        [question(number, place, max_tokens=1) for number in range(3, 8)],
    )
    engine.say(question(1, place, n=4, max_tokens=40), wide, *small)
    order = ends(engine.end())
    assert order[:2] == [3, 4]
    assert order.index(1) < order.index(5)


def test_one_that_memory_reaches_for_only_without_others_is_answered_after_them(
    engine: Engine, place: Path, monkeypatch
):
    token_bytes = 2 * 2 * 2 * 8 * resident._weights().machine.compute_dtype.itemsize  # layers, heads, their width
    monkeypatch.setattr(talks, "free_bytes", lambda _: 100 * token_bytes)
    monkeypatch.setattr(talks, "_about", lambda _: 1)
    read: list[int] = []
    monkeypatch.setattr(talks, "Talk", lambda number, *rest: (read.append(number), Talk(number, *rest))[1])
    engine.say(question(1, place, max_tokens=30), question(2, place, prompt=[0] * 60), question(3, place, max_tokens=1))
    heard = engine.end()
    assert ends(heard) == [3, 1, 2]
    assert not [line for line in heard if "failed" in line]
    assert sorted(read) == [1, 2, 2, 3]  # it is not tried at each step


def test_one_that_memory_does_not_reach_for_is_told_to_ask_for_less(engine: Engine, place: Path, monkeypatch):
    monkeypatch.setattr(Batch, "step", lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    engine.say(question(1, place))
    (failed,) = [line["failed"] for line in engine.end() if "failed" in line]
    assert failed["class"] == "out_of_memory"
    assert "max_tokens" in failed["mend"]
    assert "train" not in failed["mend"]


def test_a_question_that_fails_is_told_why_and_the_next_is_answered(engine: Engine, place: Path):
    broken = question(1, place) | {"n": "many"}
    engine.say(question(3, place, max_tokens=30), broken, question(2, place, max_tokens=2))
    heard = engine.end()
    assert [line["failed"]["class"] for line in heard if "failed" in line] == ["bug"]
    assert sorted(ends(heard)) == [1, 2, 3]
