"""What goes to stdout, and in which form."""

import json

import pytest

from cli.output import Column, duration, print_fields, print_rows, sentence, size, styled

COLUMNS: list[Column] = [("id", lambda row: row["id"]), ("loss", lambda row: row["loss"])]
ROWS = [{"id": "job-1", "loss": 1.23456}, {"id": "job-2", "loss": None}]


def test_off_a_terminal_rows_are_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, as_json=False, quiet=False)
    assert capsys.readouterr().out == "id\tloss\njob-1\t1.235\njob-2\t\n"


def test_quiet_prints_ids_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, as_json=False, quiet=True)
    assert capsys.readouterr().out == "job-1\njob-2\n"


def test_json_is_the_objects_as_they_came(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, COLUMNS, as_json=True, quiet=False)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_a_cell_never_breaks_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"id": "a\tb\nc", "loss": 1.0}], COLUMNS, as_json=False, quiet=False)
    assert capsys.readouterr().out.splitlines()[1] == "a b c\t1"


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(ROWS[1], COLUMNS, as_json=False, quiet=False)
    assert capsys.readouterr().out == "id\tjob-2\n"


def test_on_a_terminal_rows_are_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows(ROWS, COLUMNS, as_json=False, quiet=False)
    table = capsys.readouterr().out
    assert "job-1" in table
    assert "\t" not in table
    assert "\x1b[3" not in table


@pytest.mark.parametrize(("asked", "shown"), [("", True), ("1", False)])
def test_no_color_leaves_text_as_it_is(asked: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", asked)
    assert styled() is shown


@pytest.mark.parametrize(("seconds", "told"), [(None, ""), (0.4, "0s"), (41, "41s"), (123, "2m03s"), (3900, "1h05m")])
def test_a_duration_is_short(seconds: float | None, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("size_bytes", "told"), [(0, "0 B"), (999, "999 B"), (1_115_394, "1.1 MB"), (2e15, "2000.0 TB")]
)
def test_a_size_has_its_unit(size_bytes: int, told: str) -> None:
    assert size(size_bytes) == told


def test_a_fault_says_nothing_twice() -> None:
    assert sentence("a.b", "a.b is empty", "a.b is empty") == "a.b is empty"
    assert sentence("a.b", "is empty", "fill it") == "a.b: is empty; fill it"
