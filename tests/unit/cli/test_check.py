"""The local check of data files."""

from pathlib import Path

import pytest

from cli.check import check, fault_line, purpose_of, require_valid, without_faults
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
