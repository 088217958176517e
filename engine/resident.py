"""A resident engine, which answers questions, one JSON object per line, until its input ends.

`{"id": 7, "ask": "preview", ...}` is answered by lines `{"id": 7, "part": ...}` and a last one, `{"id": 7, "end": true}`
or `{"id": 7, "failed": {...}}`. The line `{"ask": "stop", "id": 7}` ends that answer early. Questions begin in their
order, as far as memory allows; chats and completions are answered side by side, a preview between two of their steps.
"""

import json
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any
from weakref import WeakValueDictionary

import engine.bnb_import  # noqa: F401 - before what imports peft
from engine.chat.room import NotNow
from engine.chat.talks import Said, Talks
from engine.chat.weights import Weights
from engine.failure import classified
from engine.forecast import forecast
from engine.job_rows import material_of
from engine.precision import Machine
from engine.preview import preview
from engine.stop import StopFlag, StopRequested

_MOST_OVERTAKEN = 16
"""The most later questions that may begin before one that has no room yet."""
_ASK_FOR_LESS = "Ask for fewer prompts or rows, a smaller n or a smaller max_tokens."


@dataclass(eq=False)
class Question:
    """A question: its number, its fields, and a flag that ends its answer.

    `put_back` means that there was no memory for it beside others, although it seemed so. It then waits for all of them:
    trying again costs reading its prompts, and perhaps loading a base.
    """

    number: int
    asked: dict[str, Any]
    stop: StopFlag
    overtaken: int = 0
    put_back: bool = False


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer until the input has ended and every question is answered; each line is flushed before the next is made."""
    inbox, talks = _Inbox(questions), Talks(_weights)
    waiting: list[Question] = []
    while True:
        waiting += inbox.take(wait=not waiting and not talks)
        if not waiting and not talks and inbox.ended:
            return
        question = _next(waiting, talks)
        if question is not None:
            try:
                _write_answers(_begun(talks, question), answers)
                waiting.remove(question)
            except NotNow:
                question.put_back = True
        _write_answers(talks.step(), answers)


@cache
def _weights() -> Weights:
    return Weights(Machine.choose("auto", "auto"))


def _next(waiting: list[Question], talks: Talks) -> Question | None:
    """Return the first question that is to stop, else the first that can begin, unless an earlier one was overtaken often."""
    question = next((question for question in waiting if question.stop.requested), None)
    if question is not None:
        return question
    for place, question in enumerate(waiting):
        if _can_begin(talks, question):
            for earlier in waiting[:place]:
                earlier.overtaken += 1
            return question
        if question.overtaken >= _MOST_OVERTAKEN:
            return None
    return None


def _can_begin(talks: Talks, question: Question) -> bool:
    if question.put_back and talks:
        return False
    try:
        return question.asked["ask"] in _AT_ONCE or talks.has_room(question.asked)
    except Exception:  # noqa: BLE001 - reported when it begins
        return True


def _begun(talks: Talks, question: Question) -> Iterator[Said]:
    """Begin a question and yield its first answers. Raises NotNow before the first of them."""
    number, asked, stop = question.number, question.asked, question.stop
    try:
        stop.check()
        if asked["ask"] in _AT_ONCE:
            yield Said(number, _AT_ONCE[asked["ask"]](asked, stop))
            yield Said(number, None)
        else:
            yield from talks.begin(number, asked, stop)
    except StopRequested:
        yield Said(number, None)
    except NotNow:
        raise
    except Exception as error:  # noqa: BLE001 - the next question is answered all the same
        yield Said(number, error)


def _preview(asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    return preview(material_of(Path(asked["run_dir"])), asked, stop)


def _forecast(asked: dict[str, Any], stop: StopFlag) -> dict[str, Any]:
    return forecast(Path(asked["run_dir"]), asked, stop)


_AT_ONCE: dict[str, Callable[[dict[str, Any], StopFlag], dict[str, Any]]] = {"preview": _preview, "forecast": _forecast}
"""The questions that are answered at once, in one part."""


class _Inbox:
    """The incoming questions, read by a thread of their own, so that a stop is noticed while another is answered."""

    def __init__(self, questions: IO[str]) -> None:
        self.ended = False
        self._waiting: queue.Queue[Question | None] = queue.Queue()
        self._flags = WeakValueDictionary[int, StopFlag]()
        threading.Thread(target=self._read, args=(questions,), daemon=True).start()

    def take(self, *, wait: bool) -> list[Question]:
        """Return the questions that have come since the last call; with `wait`, at least one unless the input ended."""
        taken: list[Question] = []
        while not self.ended:
            try:
                question = self._waiting.get(block=wait and not taken)
            except queue.Empty:
                break
            if question is None:
                self.ended = True
            else:
                taken.append(question)
        return taken

    def _read(self, questions: IO[str]) -> None:
        for line in questions:
            asked = json.loads(line)
            number = asked["id"]
            if asked["ask"] == "stop":
                self._flags.get(number, StopFlag()).requested = True  # an answer that has ended has no flag
            else:
                flag = self._flags[number] = StopFlag()
                self._waiting.put(Question(number, asked, flag))
        self._waiting.put(None)


def _write_answers(said: Iterator[Said], answers: IO[str]) -> None:
    for number, part in said:
        if isinstance(part, Exception):
            traceback.print_exception(part)
            failure = classified(part, less=_ASK_FOR_LESS).fields()
            _write(answers, {"id": number, "failed": {"class": failure.pop("failure"), **failure}})
        else:
            _write(answers, {"id": number, "end": True} if part is None else {"id": number, "part": part})


def _write(answers: IO[str], line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()
