"""Rows that a job leaves out by their lines."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from engine.data import source
from engine.data.cache import BlockCache
from engine.data.exclusion import without
from engine.data.source import RowFile, scan
from engine.data.supply import FileSupply
from engine.data.text import TextRecipe
from engine.errors import DataError
from engine.jobs import JOB_SPEC
from engine.journal import Journal
from tests import runs

ROWS = 60
RUNS = {"sft": (runs.sft_run, runs.sft_spec), "dpo": (runs.dpo_run, runs.dpo_spec)}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "events.jsonl")) as opened:
        yield opened


@pytest.fixture
def rows_file(tmp_path: Path) -> RowFile:
    """Rows on lines 1 to 60 in several blocks; line 61 is empty, line 62 has the last one."""
    path = runs.write_rows(tmp_path / "train.jsonl", runs.answers(ROWS))
    with path.open("a") as file:
        file.write("\n" + json.dumps(runs.answers(1, seed=5)[0]) + "\n")
    return scan(path, "fine-tune", split_seed=1)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK_BYTES", 1000)


def trained(file: RowFile) -> list[int]:
    return [row.line for block in file.blocks for row in file.training_rows(block)]


def held_out(file: RowFile) -> list[int]:
    return [row.line for row in file.held_out_rows()]


def excluding(root: Path, kind: str, lines: Sequence[int]) -> Path:
    make, spec = RUNS[kind]
    return make(root, rows=ROWS, spec=spec() | {"exclude_rows": list(lines)})


def told(root: Path) -> list[dict[str, Any]]:
    return [event for event in runs.events(root, "log") if event["code"] == "rows_excluded"]


def test_the_rows_on_the_lines_are_not_trained_on_and_all_others_are(rows_file: RowFile, journal: Journal) -> None:
    assert len(rows_file.blocks) > 3
    lines = trained(rows_file)
    chosen = [lines[0], lines[20], lines[21], 62]
    made = without(rows_file, chosen, journal)
    assert trained(made) == [line for line in lines if line not in chosen]
    assert made.training_row_count == len(lines) - len(chosen)


def test_what_is_held_out_stays_held_out_and_is_told(rows_file: RowFile, journal: Journal, tmp_path: Path) -> None:
    kept, left_out = held_out(rows_file), trained(rows_file)[3]
    made = without(rows_file, [left_out, *kept], journal)
    assert held_out(made) == kept
    assert made.training_row_count == rows_file.training_row_count - 1
    (event,) = told(tmp_path)
    assert event["data"] == {"count": 1, "lines": [left_out], "held_out": kept}


@pytest.mark.parametrize("line", [61, 63, 10_000])
def test_a_line_without_a_row_is_named(rows_file: RowFile, journal: Journal, line: int) -> None:
    with pytest.raises(DataError, match=rf"^exclude_rows: no row of the file begins on line {line}$"):
        without(rows_file, [2, line], journal)


def test_a_file_of_which_nothing_is_left_is_refused(rows_file: RowFile, journal: Journal) -> None:
    with pytest.raises(DataError, match=r"leaves no row of train\.jsonl"):
        without(rows_file, trained(rows_file), journal)


def test_all_pieces_of_one_long_line_are_left_out(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / "train.txt"
    path.write_text(runs.text(20) + runs.text(200).replace("\n", " ") + "\n" + runs.text(20))
    file = scan(path, "pretrain", split_seed=None)
    lines = trained(file)
    long = max(set(lines), key=lines.count)
    assert lines.count(long) > 5
    made = without(file, [long], journal)
    assert trained(made) == [line for line in lines if line != long]
    assert made.training_row_count == len(trained(made))


def test_windows_hold_no_excluded_row(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in runs.text(200).splitlines()))
    file = without(scan(path, "pretrain", split_seed=None), [5, 17], journal)
    recipe, cache = TextRecipe(runs.tokenizer(), 32), BlockCache(tmp_path / "cache", 2**30)
    made = FileSupply(file, recipe, cache, seed=1, window_blocks=3)
    lines = np.concatenate([made.window(0, index).lines for index in range(made.windows)])
    assert made.windows > 1
    assert set(lines.tolist()) == set(range(1, 201)) - {5, 17}
    assert made.row_count() == 198


@pytest.mark.parametrize("kind", RUNS)
def test_a_job_trains_on_the_other_rows_and_is_scored_on_the_same(tmp_path: Path, kind: str) -> None:
    with runs.opened(excluding(tmp_path / "whole", kind, [])) as session:
        whole = session.rows
    with runs.opened(excluding(tmp_path / "run", kind, range(1, 11))) as session:
        rows = session.rows
    assert whole.train is not None
    assert rows.train is not None
    assert whole.validation is not None
    assert rows.validation is not None
    assert rows.validation.lines.tolist() == whole.validation.lines.tolist()
    (event,) = told(tmp_path / "run")
    assert rows.train.row_count() == whole.train.row_count() - event["data"]["count"]
    assert event["data"]["count"] + len(event["data"]["held_out"]) == 10
    assert not told(tmp_path / "whole")


def test_a_run_ends_in_a_data_error_where_a_line_has_no_row(tmp_path: Path) -> None:
    root = excluding(tmp_path / "run", "sft", [ROWS + 1])
    assert runs.carry_out(root) == DataError.exit_code
    (failed,) = runs.events(root, "failed")
    assert (failed["failure"], failed["code"]) == ("data_error", "no_such_row")
    assert f"line {ROWS + 1}" in failed["message"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([0], "greater than or equal to 1"),
        ([3, 4, 3], "line 3 is named twice"),
        ([True], "valid integer"),
        (["17"], "valid integer"),
        (list(range(1, 10_002)), "at most 10,000"),
    ],
)
def test_lines_that_are_none_are_refused(lines: list[Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JOB_SPEC.validate_python(runs.sft_spec() | {"exclude_rows": lines})


def test_lines_of_a_mixture_are_refused() -> None:
    spec = runs.sft_spec() | {"mixture": [{"file": "file-1"}, {"file": "file-2"}], "exclude_rows": [1]}
    del spec["training_file"]
    with pytest.raises(ValidationError, match="exclude_rows are lines of training_file"):
        JOB_SPEC.validate_python(spec)
