"""Exact match as lm_eval scores GSM8K: a pattern finds the answer in a text, and both are normalized to compare them."""

import re
from typing import NamedTuple

from engine.kinds.eval.spec import GSM8K_PATTERN

_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
"""lm_eval's flexible-extract: anything that looks like a number; the last one counts."""
_IGNORED = (re.compile(","), re.compile(r"\$"), re.compile(r"\.$"))


class Grade(NamedTuple):
    """The grade of a text; `answer` is the answer found in it, if any."""

    answer: str | None
    correct: bool
    flexible: bool


def pattern_for(references: list[str], asked: str | None) -> re.Pattern[str] | None:
    """Return the pattern of the answer in a text, or None if the whole text is the answer."""
    if asked == "auto":
        pattern = re.compile(GSM8K_PATTERN)
        return pattern if all(pattern.search(reference) for reference in references) else None
    return None if asked is None else re.compile(asked)


def answer_in(text: str, pattern: re.Pattern[str] | None) -> str | None:
    if pattern is None:
        return text.strip()
    found = pattern.search(text)
    return None if found is None else _normalized(found[1] or "")


def last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return _normalized(found[-1][0] or found[-1][1]) if found else None


def grade(text: str, gold: str, pattern: re.Pattern[str] | None) -> Grade:
    """Grade a text against `gold`, the answer of its reference."""
    answer = answer_in(text, pattern)
    return Grade(answer, answer == gold, last_number(text) == gold)


def _normalized(answer: str) -> str:
    for ignored in _IGNORED:
        answer = ignored.sub("", answer)
    return answer.strip().lower()
