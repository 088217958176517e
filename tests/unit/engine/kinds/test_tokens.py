"""The loss of every token of chosen rows."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from engine.checkpoint import folder_of
from engine.errors import EXIT_DATA
from engine.rowlog import NAME, RowLoss, rows_of_step
from tests import runs

STEP = 3
ANSWERS = runs.answers(12)
TEXTS = [{"text": runs.sentence(random.Random(seed), 8)} for seed in range(12)]


def trained(root: Path, kind: str, rows: list[dict[str, Any]], tuning: dict[str, Any]) -> Path:
    spec = runs.sft_spec(max_steps=STEP, max_length=32, precision="fp32")
    spec |= {"kind": kind, "tuning": tuning, "checkpoints": {"save_steps": 1, "save_total_limit": 9}}
    runs.sft_run(root, spec=spec)
    runs.write_rows(root / "data" / "train.jsonl", rows)
    assert runs.carry_out(root) == 0
    return root


def logged(root: Path) -> list[RowLoss]:
    with (root / NAME).open("rb") as log:
        return rows_of_step(log, STEP)


def asked(root: Path, rows: list[int], **settings: Any) -> Path:
    """An evaluation of these rows of data/eval.jsonl."""
    evaluation = {"task": "tokens", "rows": rows, "max_length": 32, "precision": "fp32", **settings}
    return runs.write_job(root, {"kind": "eval", "model": "tiny/1", "eval_file": "file-1", "evaluation": evaluation})


def tokens_at(root: Path, run: Path, step: int, rows: list[int]) -> dict[int, dict[str, Any]]:
    """The items by line, scored by the checkpoint of a step of the run."""
    asked(root, rows)
    (root / "data").mkdir()
    shutil.copyfile(run / "data" / "train.jsonl", root / "data" / "eval.jsonl")
    saved = folder_of(run / "checkpoints", step)
    adapter = (saved / "adapter_config.json").exists()
    (root / "model").symlink_to(run / "model" if adapter else saved)
    if adapter:
        (root / "adapter").symlink_to(saved)
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    return {item["line"]: item for item in items(root)}


def items(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]


@pytest.fixture
def described(tmp_path: Path) -> dict[str, Any]:
    """The one item of a conversation."""
    root = asked(tmp_path / "run", [2], max_length=256)
    runs.write_rows(root / "data" / "eval.jsonl", ANSWERS)
    runs.save_base(root / "model")
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    (item,) = items(root)
    return item


@pytest.mark.parametrize(
    ("kind", "rows", "tuning"),
    [
        ("sft", ANSWERS, {"method": "lora", "r": 4}),
        ("sft", ANSWERS, {"method": "full"}),
        ("pretrain", TEXTS, {"method": "full"}),
    ],
    ids=["answers, lora", "answers, full", "texts"],
)
def test_the_tokens_lose_what_the_row_lost_at_the_step_that_began_with_the_checkpoint(tmp_path, kind, rows, tuning):
    run = trained(tmp_path / "run", kind, rows, tuning)
    lost: dict[int, float] = {}
    for row in logged(run):
        lost[row.line] = lost.get(row.line, 0.0) + row.loss * row.labels
    found = tokens_at(tmp_path / "before", run, STEP - 1, list(lost))
    after = tokens_at(tmp_path / "after", run, STEP, list(lost))
    for line, total in lost.items():
        sums = [sum(loss or 0.0 for loss in told[line]["losses"]) for told in (found, after)]
        assert sums[0] == pytest.approx(total, rel=1e-5)
        assert sums[1] != pytest.approx(total, rel=1e-3)


def test_the_pieces_are_the_text_that_is_read(described, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert "".join(described["pieces"]) == tokenizer.decode(described["ids"])
    assert ANSWERS[1]["prompt"] in "".join(described["pieces"])


def test_the_trained_pieces_are_the_answer_and_its_end(described):
    trained = described["trained"]
    answer = "".join(piece for piece, label in zip(described["pieces"], trained, strict=True) if label)
    assert answer.startswith(ANSWERS[1]["completion"])
    assert trained[-1]
    assert [loss is not None for loss in described["losses"]] == trained
    assert described["tokens"] == sum(trained)


@pytest.mark.parametrize("rows", [ANSWERS, TEXTS])
def test_a_line_on_which_no_row_begins_is_an_error_of_the_data(tmp_path, rows):
    root = asked(tmp_path / "run", [2, 99])
    runs.write_rows(root / "data" / "eval.jsonl", rows)
    runs.save_base(root / "model")
    assert runs.carry_out(root) == EXIT_DATA
    (failed,) = runs.events(root, "failed")
    assert failed["code"] == "no_such_row"
    assert failed["message"].endswith("begins on line 99")


def test_of_a_file_of_many_blocks_those_of_the_rows_alone_are_read(tmp_path):
    root = asked(tmp_path / "run", [2, 9000])
    runs.write_rows(root / "data" / "eval.jsonl", ANSWERS * 1000)
    runs.save_base(root / "model")
    with runs.opened(root) as session:
        objective: Any = session.objective
        assert [row.line for row in objective.source] == [2, 9000]
        assert objective.source[1].row[0]["content"] == ANSWERS[8999 % 12]["prompt"]


def test_of_a_running_text_the_windows_that_begin_on_the_line_are_told(tmp_path):
    root = asked(tmp_path / "run", [1])
    (root / "data").mkdir()
    (root / "data" / "eval.txt").write_text(runs.text(200))
    runs.save_base(root / "model")
    assert runs.carry_out(root) == 0, runs.events(root, "failed")
    (item,) = items(root)
    assert item["tokens"] % 32 == 0
    assert "".join(item["pieces"][1:30]) in runs.text(200)
