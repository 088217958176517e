"""The local check of data files."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import ApiSettings
from cli import check as module
from cli.check import check, fault_line, purpose_of, require_valid, tally, without_faults
from cli.errors import CommandError, Exit

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_every_line_of_the_broken_example_that_should_be_refused_is() -> None:
    report = check(EXAMPLES / "broken.jsonl", "fine-tune")
    assert [fault.line for fault in report.faults] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert report.row_count == 4


def test_the_broken_example_holds_every_sort_of_fault_once_or_more() -> None:
    report = check(EXAMPLES / "broken.jsonl", "fine-tune")
    assert {
        "not_json",
        "not_utf8",
        "nul_byte",
        "not_an_object",
        "mixed_formats",
        "missing_field",
        "wrong_type",
        "unknown_role",
        "no_assistant_turn",
        "empty_answer",
    } <= report.counts_by_code.keys()


def test_a_fault_line_has_file_line_and_column() -> None:
    report = check(EXAMPLES / "broken.jsonl", "fine-tune")
    told = [fault_line("broken.jsonl", fault) for fault in report.faults]
    assert told[0].startswith("broken.jsonl:2: messages[1].role")
    assert "assistant" in told[0]
    assert told[1].startswith("broken.jsonl:3:54: not JSON")


@pytest.mark.parametrize("name", ["gsm8k_train.jsonl", "gsm8k_heldout.jsonl", "preferences.jsonl", "shakespeare.txt"])
def test_the_shipped_examples_have_no_faults(name: str) -> None:
    assert require_valid(EXAMPLES / name, purpose_of(EXAMPLES / name)).fault_count == 0


def test_skipping_faulty_lines_keeps_the_good_ones_byte_for_byte() -> None:
    lines = (EXAMPLES / "broken.jsonl").read_bytes().split(b"\n")
    with without_faults(EXAMPLES / "broken.jsonl", "fine-tune") as (kept, report):
        assert kept.name == "broken.jsonl"
        assert kept.read_bytes() == b"".join(lines[number - 1] + b"\n" for number in (1, 4, 16, 17))
        assert report.row_count == 4


def test_a_file_without_a_good_row_is_refused_even_when_faults_may_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("nothing\n")
    with pytest.raises(CommandError) as caught, without_faults(path, "fine-tune"):
        pass
    assert caught.value.code is Exit.INVALID


@pytest.mark.parametrize(
    ("name", "content", "purpose"),
    [
        ("a.txt", "To be", "pretrain"),
        ("a.jsonl", '\ufeff{"text": "To be"}', "pretrain"),
        ("a.jsonl", '\n{"messages": []}', "fine-tune"),
        ("a.jsonl", '{"prompt": "a", "completion": "b", "text": "c"}', "fine-tune"),
        ("a.jsonl", "not json", "fine-tune"),
        ("a.jsonl", "", "fine-tune"),
    ],
)
def test_the_purpose_is_told_from_the_file(tmp_path: Path, name: str, content: str, purpose: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert purpose_of(tmp_path / name) == purpose


def test_a_first_row_is_read_whole_however_long_a_row_may_be(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\n\n{"text": "' + "To be " * 100_000 + '"}\n')
    assert purpose_of(path) == "pretrain"


def test_a_row_that_nests_too_deep_is_left_to_the_check(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[" * 60_000)
    assert purpose_of(path) == "fine-tune"
    assert check(path, "fine-tune").fault_count == 1


def test_the_length_of_a_row_is_the_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "' + "To be or not to be " * 4 + '"}\n')
    monkeypatch.setenv("TRAINYARD_MAX_LINE_BYTES", "70")
    assert check(path, "pretrain").counts_by_code == {"line_too_long": 1}
    path.write_text('{"text": "' + "To be " * 1_000_000 + '"}\n')
    monkeypatch.setenv("TRAINYARD_MAX_LINE_BYTES", "8000000")
    assert check(path, purpose_of(path)).row_count == 1
    monkeypatch.setenv("TRAINYARD_MAX_LINE_BYTES", "8 MB")
    with pytest.raises(CommandError, match="TRAINYARD_MAX_LINE_BYTES is '8 MB'"):
        check(path, "pretrain")


@pytest.mark.parametrize("given", ["4194304.0", " 70 ", "7_000", "64", "63", "0", "-1", "70.5", "1e6", "\u0667\u0660"])
def test_the_length_of_a_row_is_read_as_the_service_reads_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_MAX_LINE_BYTES", given)
    try:
        taken = ApiSettings().max_line_bytes
    except ValidationError:
        with pytest.raises(CommandError, match="at least 64") as caught:
            module._max_line_bytes()
        assert caught.value.code is Exit.USAGE
    else:
        assert module._max_line_bytes() == taken


def test_a_fault_gives_the_terminal_no_orders(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "\\u001b[2J", "content": "a"}]}\n')
    (fault,) = check(path, "fine-tune").faults
    assert "\x1b" not in fault_line("rows\x1b[2J.jsonl", fault)


def test_a_tally_of_one_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "1 + 1?", "completion": "2"}\n{"prompt": "1 + 1?", "completion": 2}\n')
    assert tally(check(path, "fine-tune")) == "1 fault in 1 line; 1 row is good."


@pytest.mark.parametrize(
    ("row", "purpose"),
    [
        ('{"item": {"question": "1 + 1?"}}', "evals"),
        ('{"item": {}, "sample": {"output_text": "2"}}', "evals"),
        ('{"prompt": "1 + 1?", "completion": "2", "item": 7}', "fine-tune"),
        ('{"text": "To be", "item": 7}', "pretrain"),
    ],
)
def test_rows_for_graders_are_evals_unless_they_are_of_another_format(row: str, purpose: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(row + "\n")
    assert purpose_of(path) == purpose
    assert check(path, purpose).fault_count == 0
