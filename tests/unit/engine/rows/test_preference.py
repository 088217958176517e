"""Preference rows: the shapes they come in, and what is wrong in those that are refused."""

import gzip
import json
from pathlib import Path

import pytest

from engine.rows import RowChecker, RowFault, parse_row

HH = Path(__file__).parents[5] / "shared/data/hh_rlhf/harmless_base_test_first1500.jsonl.gz"
USER = {"role": "user", "content": "2+2?"}


def answer(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


PAIR = {"prompt": [USER], "chosen": [answer("4")], "rejected": [answer("5")]}


def fault(row: dict) -> RowFault:
    checker = RowChecker(purpose="fine-tune", filename="rows.jsonl")
    checker.feed(json.dumps(row).encode())
    report = checker.finish()
    assert report.fault_count == 1, report
    return report.faults[0]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": [USER], "chosen": "4", "rejected": "5"},
        {"prompt": "2+2?", "chosen": [answer("4")], "rejected": [answer("5")]},
        {"prompt": "2+2?", "chosen": [USER, answer("4")], "rejected": [USER, answer("5")]},
        {"chosen": [USER, answer("4")], "rejected": [USER, answer("5")]},
        {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"},
        {"prompt": "2+2?", "chosen": "4", "rejected": "5", "messages": [USER, answer("4")], "score": 1},
    ],
)
def test_every_shape_reads_as_the_same_pair(row):
    checker = RowChecker(purpose="fine-tune", filename="rows.jsonl")
    checker.feed(json.dumps(row).encode())
    report = checker.finish()
    assert (report.format, report.row_count, report.fault_count) == ("preference", 1, 0)
    assert parse_row(row, "preference") == PAIR


def test_the_prompt_ends_where_the_conversations_part():
    start = [USER, answer("4"), {"role": "user", "content": "sure?"}]
    row = {"chosen": [*start, answer("yes")], "rejected": [*start, answer("no"), USER, answer("5")]}
    pair = parse_row(row, "preference")
    assert isinstance(pair, dict)
    assert pair["prompt"] == start
    assert len(pair["rejected"]) == 3


def test_a_question_that_differs_belongs_to_the_answer():
    row = {
        "chosen": [USER, answer("4"), {"role": "user", "content": "thanks"}, answer("ok")],
        "rejected": [USER, answer("4"), {"role": "user", "content": "no"}, answer("why?")],
    }
    pair = parse_row(row, "preference")
    assert isinstance(pair, dict)
    assert pair["prompt"] == [USER]


@pytest.mark.parametrize(
    ("row", "code", "path"),
    [
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "empty_answer", "chosen"),
        ({"prompt": "a", "chosen": "b", "rejected": [answer(" ")]}, "empty_answer", "rejected[0].content"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "wrong_type", "prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "wrong_type", "rejected"),
        ({"prompt": "a", "chosen": [], "rejected": "b"}, "wrong_type", "chosen"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "empty_prompt", "prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same_answers", "rejected"),
        ({"prompt": "a", "chosen": [USER], "rejected": "b"}, "first_not_assistant", "chosen"),
        ({"prompt": "a", "chosen": [answer("4"), USER], "rejected": "b"}, "last_not_assistant", "chosen"),
        ({"chosen": "a", "rejected": "b"}, "missing_field", "prompt"),
        ({"chosen": [answer("4")], "rejected": [answer("5")]}, "no_shared_prompt", "chosen"),
        ({"prompt": "a", "chosen": "b"}, "missing_field", "rejected"),
    ],
)
def test_a_fault_is_told_with_its_path(row, code, path):
    told = fault(row)
    assert (told.code, told.path, told.line) == (code, path, 1)


def test_an_unknown_role_in_an_answer_gets_a_did_you_mean():
    told = fault({"prompt": "a", "chosen": [{"role": "asistant", "content": "x"}], "rejected": "b"})
    assert (told.path, told.hint) == ("chosen[0].role", "did you mean 'assistant'?")


@pytest.mark.skipif(not HH.exists(), reason="the shared copy of hh-rlhf is not on this machine")
def test_real_pairs_of_hh_rlhf_are_read_and_their_empty_answers_named():
    checker = RowChecker(purpose="fine-tune", filename="hh.jsonl")
    data = gzip.decompress(HH.read_bytes())
    checker.feed(data)
    report = checker.finish()
    assert (report.format, report.row_count, report.counts_by_code) == ("preference", 1496, {"empty_answer": 4})
    pair = parse_row(json.loads(data.splitlines()[0]), "preference")
    assert isinstance(pair, dict)
    assert [turn["role"] for turn in pair["prompt"]] == ["user", "assistant"] * 2 + ["user"]
    assert pair["chosen"][0]["content"].startswith("No, sorry!")


def test_the_tools_of_a_row_in_openai_s_shape_are_refused_where_they_stand():
    row = {"input": {"messages": [USER], "tools": []}, "preferred_output": [answer("4")]}
    row |= {"non_preferred_output": [answer("5")]}
    assert parse_row(row, "preferred_output")
    row["input"] = {"messages": [USER], "tools": [{"type": "function"}]}
    assert (fault(row).code, fault(row).path) == ("not_in_content", "input.tools")
    row["input"] = {"messages": [USER]}
    row["tools"] = [{"type": "function"}]
    assert (fault(row).code, fault(row).path) == ("not_in_content", "tools")
