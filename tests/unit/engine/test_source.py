"""Data files as rows, and the split."""

import pytest

from engine.data.source import read_source, read_sources, split
from engine.errors import DataError
from tests import runs


def test_a_text_is_cut_into_blocks_that_join_to_the_text(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(runs.text(300))
    blocks = read_source(path, "pretrain")
    assert "".join(str(block.row) for block in blocks) == runs.text(300)
    assert [block.follows for block in blocks] == [False] + [True] * (len(blocks) - 1)
    assert [block.ends for block in blocks] == [False] * (len(blocks) - 1) + [True]


def test_a_block_knows_its_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(runs.text(300))
    blocks, lines = read_source(path, "pretrain"), runs.text(300).splitlines()
    assert all(str(block.row).splitlines()[0] == lines[block.line - 1] for block in blocks)


def test_an_unreadable_row_is_told_with_its_line(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n\n{"prompt": "a", "completion": 3}\n')
    with pytest.raises(DataError, match=r"^train\.jsonl, line 3: completion"):
        read_source(path, "fine-tune")


def test_a_line_that_is_not_json_is_told_with_its_number(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    with pytest.raises(DataError, match=r"^train\.jsonl, line 2: not JSON"):
        read_source(path, "fine-tune")


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"fine\nalso fine\n\xff\n")
    with pytest.raises(DataError, match="line 3"):
        read_source(path, "pretrain")


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="no rows"):
        read_source(path, "pretrain")


def test_the_split_takes_five_percent_by_the_seed(tmp_path):
    rows = read_source(runs.write_rows(tmp_path / "train.jsonl", runs.answers(200)), "fine-tune")
    train, held_out = split(rows, seed=1)
    assert len(held_out) == 10
    assert sorted(row.line for row in (*train, *held_out)) == list(range(1, 201))
    assert split(rows, seed=1)[1] == held_out
    assert split(rows, seed=2)[1] != held_out


def test_equal_rows_stay_on_one_side_of_the_split(tmp_path):
    rows = read_source(runs.write_rows(tmp_path / "train.jsonl", runs.answers(50) * 3), "fine-tune")
    train, held_out = split(rows, seed=1)
    assert not {str(row.row) for row in train} & {str(row.row) for row in held_out}


def test_a_small_file_is_not_split(tmp_path):
    rows = read_source(runs.write_rows(tmp_path / "train.jsonl", runs.answers(19)), "fine-tune")
    assert split(rows, seed=1) == (rows, [])


def test_a_block_after_a_held_out_one_starts_a_document(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(runs.text(300))
    train, held_out = split(read_source(path, "pretrain"), seed=1)
    gaps = {block.line for block in held_out}
    after = [block for block, before in zip(train[1:], train, strict=False) if not block.follows and before.follows]
    assert gaps
    assert len(after) >= 1


def test_a_validation_file_replaces_the_split(tmp_path):
    train = runs.write_rows(tmp_path / "train.jsonl", runs.answers(40))
    validation = runs.write_rows(tmp_path / "validation.jsonl", runs.answers(7, seed=9))
    sources = read_sources(train, validation, purpose="fine-tune", auto_split=True, seed=1)
    assert (len(sources.train), len(sources.validation)) == (40, 7)
