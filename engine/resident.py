"""A resident engine: it answers questions, a JSON line each, until its input ends.

`{"id": 7, "ask": "preview", ...}` is answered by lines `{"id": 7, "part": ...}` and a last one, `{"id": 7, "end": true}`
or `{"id": 7, "failed": {...}}`. The line `{"ask": "stop"}` ends the newest question's answer, early and in good order.
"""

import json
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import engine.bits  # noqa: F401 - before what imports peft
from engine.chat import chat, complete
from engine.chat.weights import Weights
from engine.failure import classified
from engine.forecast import forecast
from engine.material import material_of
from engine.precision import Machine
from engine.preview import preview
from engine.stop import StopFlag, StopRequested

Answer = Iterator[dict[str, Any]]


def _preview(asked: dict[str, Any], stop: StopFlag) -> Answer:
    yield preview(material_of(Path(asked["run_dir"])), asked, stop)


def _forecast(asked: dict[str, Any], stop: StopFlag) -> Answer:
    yield forecast(material_of(Path(asked["run_dir"])), asked, stop)


def _chat(asked: dict[str, Any], stop: StopFlag) -> Answer:
    return chat(_weights(), asked, stop)


def _complete(asked: dict[str, Any], stop: StopFlag) -> Answer:
    return complete(_weights(), asked, stop)


@cache
def _weights() -> Weights:
    return Weights(Machine.choose("auto", "auto"))


_ANSWERS: dict[str, Callable[[dict[str, Any], StopFlag], Answer]] = {
    "preview": _preview,
    "forecast": _forecast,
    "chat": _chat,
    "complete": _complete,
}


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer one question after the other; each line is on its way when the next is made."""
    waiting: queue.Queue[tuple[dict[str, Any], StopFlag] | None] = queue.Queue()
    threading.Thread(target=_read, args=(questions, waiting), daemon=True).start()
    while (told := waiting.get()) is not None:
        _answer(*told, answers)


def _answer(asked: dict[str, Any], stop: StopFlag, answers: IO[str]) -> None:
    number = asked["id"]
    try:
        for part in _ANSWERS[asked["ask"]](asked, stop):
            _write(answers, {"id": number, "part": part})
    except StopRequested:
        _write(answers, {"id": number, "end": True})
    except Exception as error:  # noqa: BLE001 - the next question is answered all the same
        traceback.print_exc()
        failure = classified(error)
        told = {"class": failure.failure, "code": failure.code, "message": failure.message, "mend": failure.mend}
        _write(answers, {"id": number, "failed": told})
    else:
        _write(answers, {"id": number, "end": True})


def _read(questions: IO[str], waiting: "queue.Queue[tuple[dict[str, Any], StopFlag] | None]") -> None:
    """Each question gets a flag of its own: a stop that comes late stops nothing else."""
    stop = StopFlag()
    for line in questions:
        asked = json.loads(line)
        if asked["ask"] == "stop":
            stop.requested = True
        else:
            stop = StopFlag()
            waiting.put((asked, stop))
    waiting.put(None)


def _write(answers: IO[str], told: dict[str, Any]) -> None:
    answers.write(json.dumps(told) + "\n")
    answers.flush()
