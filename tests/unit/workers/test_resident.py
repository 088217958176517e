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
import json, os, sys, time
held = []
for line in sys.stdin:
    asked = json.loads(line)
    if asked["ask"] == "stop":
        continue
    if asked.get("held"):
        held.append(asked)
        continue
    for told in asked["says"]:
        if isinstance(told, float):
            time.sleep(told)
        elif told == "die":
            os._exit(3)
        elif told == "go on":
            for one in held:
                for part in one["says"]:
                    print(json.dumps({"id": one["id"], **part}), flush=True)
        else:
            print(json.dumps({"id": asked["id"] + asked.get("off", 0), **told}), flush=True)
"""
"""Says what the question tells it to: parts of its answer, and seconds of silence between them; to a question that it has
held back only when another tells it to go on."""
END = {"end": True}
LONG = {"part": "secret" * LONGEST}


def said(word: str) -> dict[str, Any]:
    return {"part": word}


async def answer(engine: Resident, *says: Any, **asked: Any) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in engine.ask({"ask": "preview", "says": says, **asked})]


def told(answers: list[dict[str, Any]]) -> list[Any]:
    return [line.get("part") for line in answers]


def lives(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


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
        with pytest.raises(ResidentDied, match="limit"):
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


def test_who_leaves_an_answer_that_has_come_to_its_end_waits_for_nothing_more(ask):
    async def conversation(engine: Resident) -> None:
        lines = engine.ask({"ask": "preview", "says": [said("theirs"), said("theirs"), END]})
        await anext(lines)
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]  # all of theirs was there before it
        before = engine.pid
        async with asyncio.timeout(1):
            await lines.aclose()  # type: ignore[attr-defined] - it is a generator
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]
        assert engine.pid == before

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


def test_questions_are_answered_side_by_side(ask):
    async def conversation(engine: Resident) -> None:
        first = asyncio.create_task(answer(engine, said("early"), END, held=True))
        await asyncio.sleep(0)
        assert told(await answer(engine, said("late"), "go on", END)) == ["late", None]
        assert told(await first) == ["early", None]

    ask(conversation)


def test_a_process_that_met_a_bug_ends_with_its_last_answer(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        before = engine.pid
        first = asyncio.create_task(answer(engine, said("early"), END, held=True))
        await asyncio.sleep(0)
        failing = engine.ask({"ask": "preview", "says": [{"failed": {"class": "bug"}}, 0.5, "go on"]})
        assert b"bug" in await anext(failing)
        assert lives(before)
        await answer(engine, END)
        assert engine.pid != before
        assert told(await first) == ["early", None]
        assert not lives(before)

    ask(conversation)


def test_an_answer_goes_on_in_a_retired_process_when_its_successor_is_retired_too(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        first = asyncio.create_task(answer(engine, said("early"), END, held=True))
        await asyncio.sleep(0)
        failing = engine.ask({"ask": "preview", "says": [{"failed": {"class": "bug"}}, 2.0, "go on"]})
        assert b"bug" in await anext(failing)
        assert told(await answer(engine, {"failed": {"class": "bug"}})) == [None]
        assert told(await answer(engine, said("mine"), END)) == ["mine", None]
        assert not first.done()
        assert told(await first) == ["early", None]

    ask(conversation)


def test_who_leaves_a_question_that_waits_ends_nobody_elses_answer(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        before = engine.pid
        first = asyncio.create_task(answer(engine, 2.5, said("early"), END))  # longer than an answer may take to end
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(engine, said("nobody's"), END), 0.1)
        assert told(await first) == ["early", None]
        assert engine.pid == before

    ask(conversation)


def test_who_leaves_an_answer_while_the_engine_is_busy_with_a_newer_question_ends_nobody_elses(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        before = engine.pid
        left = asyncio.create_task(answer(engine, said("nobody's"), END, held=True))
        await asyncio.sleep(0)
        newer = asyncio.create_task(answer(engine, 2.5, said("late"), END))  # longer than an answer may take to end
        await asyncio.sleep(0.1)
        left.cancel()
        assert told(await newer) == ["late", None]
        assert engine.pid == before

    ask(conversation)


def test_an_engine_that_says_nothing_to_anybody_for_long_is_ended_by_whoever_leaves(ask, monkeypatch):
    monkeypatch.setattr(resident, "_LONGEST_BUSY_S", 1.0)

    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        left = asyncio.create_task(answer(engine, 60.0, END))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(answer(engine, said("mine"), END))
        await asyncio.sleep(0.1)
        left.cancel()
        async with asyncio.timeout(30):
            assert told(await waiting) == ["mine", None]  # of its successor

    ask(conversation)


def test_an_engine_that_says_nothing_is_ended_though_somebody_asks_again_and_again(ask, monkeypatch):
    monkeypatch.setattr(resident, "_LONGEST_BUSY_S", 1.0)

    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        before, left = engine.pid, list[asyncio.Task[Any]]()
        for _ in range(8):
            left.append(asyncio.create_task(answer(engine, 60.0, END)))
            await asyncio.sleep(0.4)
            if len(left) < 8:  # somebody waits at any time
                left[-1].cancel()
        ended = not lives(before)
        left[-1].cancel()
        await asyncio.gather(*left, return_exceptions=True)
        assert ended

    ask(conversation)


def test_one_that_is_over_and_over_asked_what_it_dies_of_takes_nobody_with_it(ask):
    async def conversation(engine: Resident) -> None:
        deadly = asyncio.create_task(answer(engine, 0.3, "die"))
        await asyncio.sleep(0)
        other = asyncio.create_task(answer(engine, said("mine"), END))
        with pytest.raises(ResidentDied):
            await deadly
        assert told(await other) == ["mine", None]

    ask(conversation)


def test_who_has_heard_nothing_from_a_process_that_dies_asks_its_successor(ask):
    async def conversation(engine: Resident) -> None:
        await answer(engine, END)
        begun = engine.ask({"ask": "preview", "says": [said("a part")], "held": True})
        waiting = asyncio.create_task(anext(begun))
        await asyncio.sleep(0.1)
        with pytest.raises(ResidentDied):
            await answer(engine, said("some of it"), "die")
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if engine.is_asked:  # by whom it was asked before
                break
        await answer(engine, "go on", END)
        assert b"a part" in await waiting

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
