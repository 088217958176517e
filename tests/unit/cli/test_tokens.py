"""Which rows of a step their tokens are asked for."""

from typing import Any

import pytest

from cli.errors import CommandError
from cli.jobs.tokens import _asked

ROWS: list[dict[str, Any]] = [
    {"file": "file-a", "line": 3},
    {"file": "file-b", "line": 3},
    {"file": "file-a", "line": 7},
]


def test_the_row_that_lost_most_is_taken_though_another_file_has_one_on_its_line() -> None:
    assert _asked(ROWS, (), None) == ROWS[:1]
    assert _asked(ROWS, (), "file-b") == ROWS[1:2]


def test_a_line_of_several_files_needs_one_named() -> None:
    with pytest.raises(CommandError, match="rows of file-a and file-b"):
        _asked(ROWS, (3,), None)
    assert _asked(ROWS, (3,), "file-b") == ROWS[1:2]
    assert _asked(ROWS, (7, 7), None) == ROWS[2:]


def test_a_line_that_no_row_is_from_is_told() -> None:
    with pytest.raises(CommandError, match="line 7"):
        _asked(ROWS, (7,), "file-b")
    with pytest.raises(CommandError, match="file-c"):
        _asked(ROWS, (), "file-c")
