"""The process that answers questions: nobody is given what is left of another's answer."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from workers import resident
from workers.resident import Resident, ResidentDied

LONGEST = 1 << 16
SPEAKER = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if asked["ask"] == "stop":
        continue
    for told in asked["says"]:
        if isinstance(told, float):
            time.sleep(told)
        else:
            print(json.dumps({"id": asked["id"] + asked.get("off", 0), **told}), flush=True)
"""
"""Says what the question tells it to: parts of its answer, and seconds of silence between them."""
END = {"end": True}
LONG = {"part": "secret" * LONGEST}


def said(word: str) -> dict[str, Any]:
    return {"part": word}


async def answer(engine: Resident, *says: Any, **asked: Any) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in engine.ask({"ask": "preview", "says": says, **asked})]


def told(answers: list[dict[str, Any]]) -> list[Any]:
    return [line.get("part") for line in answers]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Resident], Awaitable[None]]], None]:
    """Runs a conversation with a process that speaks as scripted."""
    script = tmp_path / "speaker.py"
    script.write_text(SPEAKER)
    monkeypatch.setattr(resident, "ENGINE", (sys.executable, str(script)))
    monkeypatch.setattr(resident, "_LONGEST_ANSWER_BYTES", LONGEST)
    monkeypatch.setattr(resident, "_LONGEST_SILENCE_S", 1.5)

    async def held(conversation: Callable[[Resident], Awaitable[None]]) -> None:
        engine = Resident(tmp_path / "log")
        try:
            await conversation(engine)
        finally:
            await engine.end()

    return lambda conversation: asyncio.run(held(conversation))


def test_after_an_answer_that_is_too_long_the_next_one_is_the_next_askers(ask):
    async def conversation(engine: Resident) -> None:
        with pytest.raises(ValueError, match="limit"):
            await answer(engine, LONG, END)
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]

    ask(conversation)


def test_an_answer_to_another_question_is_passed_on_to_nobody(ask):
    async def conversation(engine: Resident) -> None:
        with pytest.raises(ResidentDied, match="another question"):
            await answer(engine, said("theirs"), END, off=1)
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]

    ask(conversation)


def test_an_answer_that_is_left_and_does_not_end_is_ended_with_its_process(ask):
    async def conversation(engine: Resident) -> None:
        lines = engine.ask({"ask": "preview", "says": [said("theirs"), 60.0, said("theirs"), END]})
        await anext(lines)
        before = engine.pid
        await lines.aclose()  # type: ignore[attr-defined] - it is a generator
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]
        assert engine.pid != before

    ask(conversation)


def test_an_asker_that_is_cancelled_while_it_waits_leaves_nothing_behind(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(engine, 0.3, said("theirs"), END), 0.1)
        before = engine.pid
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]
        assert engine.pid == before

    ask(conversation)


@pytest.mark.parametrize(("failure", "kept"), [("bug", False), ("data_error", True)])
def test_a_process_that_met_a_bug_answers_no_other_question(ask, failure: str, kept: bool):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        before = engine.pid
        assert told(await answer(engine, {"failed": {"class": failure}})) == [None]
        await answer(engine, END)
        assert (engine.pid == before) == kept

    ask(conversation)
