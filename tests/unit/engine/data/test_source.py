"""Data files as rows, and the split."""

from pathlib import Path

import pytest

from engine.data import source
from engine.data.source import Sources, read_source, read_sources, scan
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


def split(path: Path, seed: int) -> Sources:
    purpose = "pretrain" if path.suffix == ".txt" else "fine-tune"
    return read_sources(scan(path, purpose, split_seed=seed), None, purpose)


def test_the_split_takes_five_percent_by_the_seed(tmp_path):
    path = runs.write_rows(tmp_path / "train.jsonl", runs.answers(200))
    made = split(path, seed=1)
    assert len(made.validation) == 10
    assert sorted(row.line for row in (*made.train, *made.validation)) == list(range(1, 201))
    assert split(path, seed=1) == made
    assert split(path, seed=2).validation != made.validation


def test_equal_rows_stay_on_one_side_of_the_split(tmp_path):
    made = split(runs.write_rows(tmp_path / "train.jsonl", runs.answers(50) * 3), seed=1)
    assert not {str(row.row) for row in made.train} & {str(row.row) for row in made.validation}


def test_of_a_large_file_two_thousand_rows_are_held_out(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"text": "{number}"}}\n' for number in range(90_000)))
    file = scan(path, "pretrain", split_seed=1)
    assert len(file.held_out) == 2000
    assert [row.line - 1 for row in file.held_out_rows()] == file.held_out.tolist()


def test_equal_rows_are_looked_at_again_only_when_they_have_doubled(tmp_path, monkeypatch):
    lowered, lower = [], source._Split._lower

    def counted(split: source._Split, rows: int) -> None:
        lowered.append(len(split._lowest))
        lower(split, rows)

    monkeypatch.setattr(source._Split, "_lower", counted)
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "again"}\n' * 150_000)
    assert len(scan(path, "pretrain", split_seed=1).held_out) == 0
    assert lowered == [64_000, 128_000, 150_000]


def test_a_small_file_is_not_split(tmp_path):
    assert len(split(runs.write_rows(tmp_path / "train.jsonl", runs.answers(19)), seed=1).validation) == 0


def test_a_piece_after_a_held_out_one_starts_a_document(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(runs.text(300))
    made = split(path, seed=1)
    starts = {block.line for block in read_source(path, "pretrain") if not block.follows}
    assert made.validation
    assert [piece for piece in made.train if not piece.follows and piece.line not in starts]


def test_rows_of_blocks_are_the_rows_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "train.jsonl"
    path.write_text("\ufeff" + "".join(f'\n{{"text": "{number}"}}\r\n' for number in range(500)))
    whole = read_source(path, "pretrain")
    monkeypatch.setattr(source, "BLOCK_BYTES", 1000)
    assert len(scan(path, "pretrain", split_seed=None).blocks) > 5
    assert read_source(path, "pretrain") == whole
    assert [row.line for row in whole] == list(range(2, 1002, 2))


@pytest.mark.parametrize("text", ["é€🦊" * 5000, "ab\n" * 9000, "\n" * 50 + "é" * 3000 + "\n" + "word\n" * 2000])
def test_a_text_is_the_same_from_its_blocks_wherever_they_are_cut(tmp_path, monkeypatch, text):
    path = tmp_path / "train.txt"
    path.write_text(text)
    monkeypatch.setattr(source, "BLOCK_BYTES", 2000)
    pieces = read_source(path, "pretrain")
    assert "".join(str(piece.row) for piece in pieces) == text
    assert len(scan(path, "pretrain", split_seed=None).blocks) > 3
    counted = [1 + text.count("\n", 0, sum(len(str(p.row)) for p in pieces[:at])) for at in range(len(pieces))]
    assert [piece.line for piece in pieces] == counted


def test_a_validation_file_replaces_the_split(tmp_path):
    train = runs.write_rows(tmp_path / "train.jsonl", runs.answers(40))
    validation = runs.write_rows(tmp_path / "validation.jsonl", runs.answers(7, seed=9))
    sources = read_sources(scan(train, "fine-tune", split_seed=None), validation, "fine-tune")
    assert (len(sources.train), len(sources.validation)) == (40, 7)
