"""How a preview is written where nothing can be underlined, and where it can."""

from typing import Any

import pytest

from cli import preview
from engine.jobs import SPECS


def document(**changes: Any) -> dict[str, Any]:
    given = {"line": 1, "answer": None, "ids": [1, 2, 3], "pieces": ["2+2", "? ", "4"], "trained": [False, False, True]}
    return given | changes


def test_off_a_terminal_what_is_trained_stands_between_marks() -> None:
    assert preview._document_line(document()) == "2+2? «4»"


def test_on_a_terminal_it_is_underlined_and_the_rest_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert preview._document_line(document()) == "\x1b[2m2+2? \x1b[0m\x1b[4m4\x1b[0m"


def test_control_characters_of_a_file_do_nothing_to_the_terminal() -> None:
    assert "\x1b" not in preview._document_line(document(pieces=["\x1b[2J", "a", "\x07"]))


def test_a_row_that_is_left_out_says_why() -> None:
    row = {"line": 7, "split": "left_out", "truncated": False, "reason": "dropped", "documents": [], "complete": True}
    (told,) = preview._row_lines([row])
    assert "line 7 (left out: longer than max_length)" in told


@pytest.mark.parametrize("name", SPECS["dpo"].FORMATS)
def test_pairs_are_previewed_as_a_dpo_job_reads_them(name: str) -> None:
    assert preview.KIND_OF_FORMAT[name] == "dpo"
