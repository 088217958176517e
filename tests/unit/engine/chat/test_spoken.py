"""Text as it may be told: nothing of a stop string, nothing after it, and all that comes before."""

import itertools

import pytest

from engine.chat.spoken import Spoken
from engine.data.pieces import Detokenizer
from engine.data.tokenizer import new_tokenizer

TOKENIZER = new_tokenizer("byte", (), 300)


def told(text: str, stop: list[str]) -> list[str]:
    """What is told after each byte, and at the end."""
    spoken = Spoken(Detokenizer(TOKENIZER), stop)
    return [*(spoken.add(token) for token in TOKENIZER(text, add_special_tokens=False)["input_ids"]), spoken.rest()]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "two"], "one "),
        ("one tw", ["two"], "one tw"),
        ("aab aac", ["aac"], "aab "),
        ("naïve é", ["é"], "naïve "),
        ("no stop", [], "no stop"),
        ("begins", ["begin"], ""),
    ],
)
def test_what_is_told_is_what_stands_before_the_first_stop(text, stop, expected):
    assert "".join(told(text, stop)) == expected


def test_nothing_is_told_that_may_still_become_a_stop():
    parts = told("abcabd", ["abd"])
    so_far = list(itertools.accumulate(parts))
    assert so_far == ["", "", "abc", "abc", "abc", "abc", "abc"]
