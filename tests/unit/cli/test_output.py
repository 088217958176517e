"""What goes to stdout, and in which form."""

import json
from contextlib import nullcontext

import pytest

from cli.errors import CommandError
from cli.output import (
    Column,
    counted,
    duration,
    legible,
    plain,
    print_done,
    print_fields,
    print_json,
    print_jsonl,
    print_rows,
    say,
    sentence,
    size,
    styled,
)

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


ORDER = "\x1b[2J\x9b31m"
"""What clears a terminal, and what colours it red, as its data might hold it."""


def test_orders_in_a_table_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows([{"id": ORDER, "loss": None}], COLUMNS, as_json=False, quiet=False)
    told = capsys.readouterr().out
    assert "\ufffd[2J\ufffd31m" in told
    assert "\x1b[2J" not in told
    assert "\x9b" not in told


def test_orders_in_a_field_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    print_fields({"id": ORDER, "loss": None}, COLUMNS, as_json=False, quiet=False)
    assert capsys.readouterr().out == "id  \ufffd[2J\ufffd31m\n"


def test_orders_in_what_is_narrated_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"left out: {ORDER}")
    assert capsys.readouterr().err == "left out: \ufffd[2J\ufffd31m\n"


@pytest.mark.parametrize("text", [ORDER, "\x7f", "\u202eevil", "\ud800", "\U000fffff", "Caf\u00e9 \U0001f682\u2028"])
def test_json_holds_no_order_and_reads_the_same(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"id": text})
    print_jsonl([{"id": text}])
    document, line = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert json.loads(document) == json.loads(line) == {"id": text}
    assert legible(document + line) == document + line


@pytest.mark.parametrize(
    "text", ["1\u00a0000", "1\u202f000", "\u3000", "\u05d0\u200f", "\U0001f469\u200d\U0001f52c", "co\u00adop"]
)
def test_spaces_and_joiners_of_a_text_stay(text: str) -> None:
    assert legible(text) == text


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\ue000", "\ud800", "\u0378"])
def test_what_a_terminal_would_obey_or_cannot_show_does_not(character: str) -> None:
    assert legible(f"a{character}b\n\t") == "a\ufffdb\n\t"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (14042.0, "14042"),
        (1234.56, "1235"),
        (-2048.0, "-2048"),
        (7.0, "7"),
        (1.23456, "1.235"),
        (3e-5, "3e-05"),
        (1e30, "1e+30"),
    ],
)
def test_a_figure_is_short_but_a_large_one_is_whole(value: float, told: str) -> None:
    assert plain(value) == told


@pytest.mark.parametrize(("count", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows")])
def test_one_is_not_many(count: int, told: str) -> None:
    assert counted(count, "row") == told


@pytest.mark.parametrize(
    ("asked", "done", "told"),
    [
        (1, 0, None),
        (1, 1, {"id": "0"}),
        (2, 0, []),
        (2, 1, [{"id": "0"}]),
        (2, 2, [{"id": "0"}, {"id": "1"}]),
    ],
)
def test_json_of_orders_has_the_form_of_what_was_asked_also_where_one_fails(
    asked: int, done: int, told: object, capsys: pytest.CaptureFixture[str]
) -> None:
    def each():
        for number in map(str, range(done)):
            yield number, {"id": number}
        if done < asked:
            raise CommandError("it is needed")

    with nullcontext() if done == asked else pytest.raises(CommandError):
        print_done(each(), asked=asked, as_json=True)
    out = capsys.readouterr().out
    assert (json.loads(out) if out else None) == told


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
