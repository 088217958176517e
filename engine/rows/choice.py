"""Multiple-choice rows: a question, its choices, and the right one."""

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from engine.rows.flaw import Flaw, excerpt, wrong_type

_FEWEST = 2


@dataclass(frozen=True)
class MultipleChoice:
    """A question; `answer` counts the choices from 0, `subject` is "" where the row has none."""

    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str

    @property
    def letters(self) -> str:
        return ascii_uppercase[: len(self.choices)]


def choice_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    """Yield the flaws of a row that has the keys question, choices and answer."""
    for key in ("question", "subject"):
        value = row.get(key)
        if not isinstance(value, str) and (key == "question" or value is not None):
            yield wrong_type(key, "a string", value)
    if isinstance(row["question"], str) and not row["question"].strip():
        yield Flaw("empty_question", "question", "question is empty")
    choices = row["choices"]
    if not isinstance(choices, list):
        yield wrong_type("choices", "a list of strings", choices)
        return
    for index, choice in enumerate(choices):
        path = f"choices[{index}]"
        if not isinstance(choice, str):
            yield wrong_type(path, "a string", choice)
        elif not choice.strip():
            yield Flaw("empty_choice", path, f"{path} is empty")
    if not _FEWEST <= len(choices) <= len(ascii_uppercase):
        message = f"choices has {len(choices)} items; a question has {_FEWEST} to {len(ascii_uppercase)} choices"
        yield Flaw("wrong_count", "choices", message, str(len(choices)))
    elif _index(row["answer"], len(choices)) is None:
        last = ascii_uppercase[len(choices) - 1]
        message = f"answer must be a number from 0 to {len(choices) - 1}, or a letter from A to {last}"
        yield Flaw(
            "unknown_answer",
            "answer",
            message,
            excerpt(row["answer"]),
            "it is the number or letter of the right choice",
        )


def read_choice(row: dict[str, Any]) -> MultipleChoice:
    """Read a row without flaws."""
    answer = _index(row["answer"], len(row["choices"]))
    assert answer is not None, "the row was checked"
    return MultipleChoice(row["question"], tuple(row["choices"]), answer, row.get("subject") or "")


def _index(answer: object, choices: int) -> int | None:
    """Return the choice that a number or a letter stands for; None when there is no such choice."""
    if isinstance(answer, str):
        letter = answer.strip()
        return ascii_uppercase.index(letter) if letter and letter in tuple(ascii_uppercase[:choices]) else None
    if isinstance(answer, bool) or not isinstance(answer, int):
        return None
    return answer if 0 <= answer < choices else None
