"""Files as supplies of documents: windows of blocks, tokenized when they come, kept by content."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from engine.data import source, training
from engine.data.cache import BlockCache
from engine.data.chat import ChatRecipe
from engine.data.corpus import Corpus
from engine.data.cut import LINES_TOLD, Losses
from engine.data.source import read_sources, scan
from engine.data.stream import RowStream
from engine.data.supply import FileSupply, Recipe
from engine.data.text import TextRecipe
from engine.errors import DataError
from tests import runs
from tests.runs import text_corpus

GIB = 2**30
TOKENIZER = runs.tokenizer()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(source, "BLOCK_BYTES", 2000)


def text_file(folder: Path, rows: int = 300) -> Path:
    path = folder / "train.jsonl"
    texts = runs.text(rows).splitlines()
    path.write_text("".join(json.dumps({"text": f"{number} {text}"}) + "\n" for number, text in enumerate(texts)))
    return path


def supply(path: Path, cache: Path, *, seed: int = 1, recipe: Recipe | None = None) -> FileSupply:
    file = scan(path, "pretrain" if recipe is None else "fine-tune", split_seed=seed)
    return FileSupply(file, recipe or TextRecipe(TOKENIZER, 32), BlockCache(cache, GIB), seed=seed, window_blocks=3)


def stream(of: FileSupply) -> RowStream:
    return RowStream(of, seed=1, row_tokens=64, step_rows=(4, 2), packing=True)


def steps(of: RowStream, count: int) -> list[list[list[int]]]:
    return [[batch.ids_T.tolist() for batch in of.next_step()] for _ in range(count)]


def same(one: Corpus, other: Corpus) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "trained", "lines"))


def test_an_epoch_of_many_windows_holds_every_training_row_once(tmp_path):
    made = supply(text_file(tmp_path), tmp_path / "cache")
    assert made.windows > 3
    trained = read_sources(made.file, None, "pretrain").train
    whole = text_corpus(trained, TOKENIZER, 32)
    for epoch in (0, 1):
        windows = [made.window(epoch, index) for index in range(made.windows)]
        assert sorted(line for window in windows for line in window.lines.tolist()) == sorted(whole.lines.tolist())


def test_an_epoch_of_steps_over_many_windows_holds_every_document_once(tmp_path):
    of = stream(supply(text_file(tmp_path), tmp_path / "cache"))
    seen: list[int] = []
    while of.epoch() < 1:
        seen += [line for batch in of.next_step() for line in batch.lines]
    assert of.sources[0].place[:3] == (1, 0, 0), "an epoch ends with a step"
    held = supply(text_file(tmp_path), tmp_path / "cache")
    assert sorted(seen) == sorted(line for index in range(held.windows) for line in held.window(0, index).lines)


def test_windows_are_a_function_of_seed_and_epoch(tmp_path):
    path = text_file(tmp_path)
    made = [supply(path, tmp_path / "cache", seed=seed).window(epoch, 0) for seed, epoch in ((1, 0), (1, 0), (1, 1))]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_a_cached_window_is_the_window(tmp_path):
    path = text_file(tmp_path)
    fresh = supply(path, tmp_path / "cache").window(0, 1)

    class Unused(TextRecipe):
        def encode(self, rows):
            raise AssertionError("it was tokenized again")

    assert same(supply(path, tmp_path / "cache", recipe=None).window(0, 1), fresh)
    file = scan(path, "pretrain", split_seed=1)
    cached = FileSupply(file, Unused(TOKENIZER, 32), BlockCache(tmp_path / "cache", GIB), seed=1, window_blocks=3)
    assert same(cached.window(0, 1), fresh)


def test_a_block_of_other_content_or_another_tokenizer_is_not_taken_from_the_cache(tmp_path):
    path = text_file(tmp_path)
    first = supply(path, tmp_path / "cache").window(0, 0)
    other = supply(path, tmp_path / "cache", recipe=None)
    other._key = TextRecipe(runs.train_tokenizer([runs.text(50)], 300), 32).key
    other.recipe = TextRecipe(runs.train_tokenizer([runs.text(50)], 300), 32)
    assert not same(other.window(0, 0), first)


@pytest.mark.parametrize("left", [lambda whole: whole[:-40], lambda whole: bytes(len(whole))], ids=["torn", "zeros"])
def test_a_block_that_a_power_cut_has_left_in_part_is_tokenized_again(tmp_path, left):
    path = text_file(tmp_path)
    fresh = supply(path, tmp_path / "cache").window(0, 0)
    for kept in (tmp_path / "cache").glob("*/*.npz"):
        kept.write_bytes(left(kept.read_bytes()))
    assert same(supply(path, tmp_path / "cache").window(0, 0), fresh)


def test_the_cache_removes_the_oldest_used_and_stays_within_its_limit(tmp_path):
    made = supply(text_file(tmp_path, rows=600), tmp_path / "cache")
    made.cache.files.limit_bytes = 30_000
    for index in range(made.windows):
        made.window(0, index)
    held = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/*"))
    assert 10_000 < held <= 30_000


def test_a_block_that_another_process_is_writing_is_not_removed_but_what_it_left_an_hour_ago_is(tmp_path):
    cache = BlockCache(tmp_path / "cache", limit_bytes=1)
    (tmp_path / "cache" / "ab").mkdir(parents=True)
    writing, left = (tmp_path / "cache" / "ab" / f"{name}.writing" for name in ("new", "old"))
    for path in (writing, left):
        path.write_bytes(b"half of it")
    os.utime(left, (time.time() - 3700,) * 2)
    cache.keep("key", Corpus.of([]))
    assert (writing.exists(), left.exists()) == (True, False)
    assert cache.find("key") is None, "the limit is for what has its name"


@pytest.mark.parametrize("taken", [1, 7, 20])
def test_a_stream_over_windows_set_to_a_cursor_goes_on_from_there_with_an_empty_cache(tmp_path, taken):
    path = text_file(tmp_path)
    whole = stream(supply(path, tmp_path / "one"))
    steps(whole, taken)
    fresh = stream(supply(path, tmp_path / "two"))
    fresh.cursor = whole.cursor
    assert steps(fresh, 12) == steps(whole, 12)


def test_with_the_row_of_the_cursor_lost_the_steps_differ(tmp_path):
    path = text_file(tmp_path)
    whole, fresh = stream(supply(path, tmp_path / "one")), stream(supply(path, tmp_path / "one"))
    steps(whole, 1)
    (place,) = whole.cursor.places
    fresh.cursor = whole.cursor._replace(places=(place._replace(row=place.row - 1),))
    assert steps(fresh, 3) != steps(whole, 3)


def test_steps_of_a_file_of_many_windows_are_estimated_from_the_first(tmp_path):
    path = text_file(tmp_path, rows=600)
    estimate = stream(supply(path, tmp_path / "cache")).steps_in(1.0)
    of, taken = stream(supply(path, tmp_path / "cache")), 0
    while of.epoch() < 1:
        of.next_step()
        taken += 1
    assert of.is_estimate()
    assert estimate == pytest.approx(taken, rel=0.15)
    assert estimate == stream(supply(path, tmp_path / "another")).steps_in(1.0)


def test_a_running_text_in_windows_has_every_token_as_a_label_once(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(runs.text(400))
    file = scan(path, "pretrain", split_seed=None)
    made = FileSupply(file, TextRecipe(TOKENIZER, 32), BlockCache(tmp_path / "cache", GIB), seed=1, window_blocks=2)
    windows = [made.window(0, index) for index in range(made.windows)]
    by_line = sorted((d.line, at, d) for w in windows for at, d in enumerate(w.documents()))
    assert made.windows > 2
    assert sum(window.labels() for window in windows) == len(TOKENIZER(path.read_text())["input_ids"]) + 1
    assert sum(window.size_bytes() for window in windows) == path.stat().st_size
    assert by_line[0][0] == 1


def test_conversations_in_windows_are_cut_as_in_memory(tmp_path):
    path = runs.write_rows(tmp_path / "train.jsonl", runs.answers(200))
    recipe = ChatRecipe(TOKENIZER, max_length=32, long_rows="truncate")
    made = supply(path, tmp_path / "cache", recipe=recipe)
    trained = read_sources(made.file, None, "fine-tune").train
    whole = recipe.cut(recipe.encode(trained), [], [])
    windows = [made.cut(0, index) for index in range(made.windows)]
    by_line = {d.line: d for window in windows for d in window.corpus.documents()}
    assert sorted(line for window in windows for line in window.truncated) == sorted(whole.truncated)
    assert all(np.array_equal(by_line[d.line].trained, d.trained) for d in whole.corpus.documents())
    assert len(by_line) == len(whole.corpus)


def test_what_all_rows_lost_is_told_once_when_all_windows_of_an_epoch_were_made(tmp_path):
    path = runs.write_rows(tmp_path / "train.jsonl", runs.answers(200))
    recipe = ChatRecipe(TOKENIZER, max_length=24, long_rows="truncate")
    made, told = supply(path, tmp_path / "cache", recipe=recipe), list[Losses]()
    made.when_all_seen = told.append
    for epoch, index in [(0, 0), (0, 0), *((epoch, index) for epoch in (0, 1) for index in range(made.windows))]:
        assert bool(told) == (epoch == 1)
        made.window(epoch, index)
    whole = recipe.cut(recipe.encode(read_sources(made.file, None, "fine-tune").train), [], [])
    assert made.windows > 2
    (lost,) = told
    assert lost.counts == (len(whole.truncated), 0, len(whole.untrained))
    assert lost.counts[0] > LINES_TOLD
    assert set(lost.lines[0]) <= set(whole.truncated)


def test_a_run_on_a_file_of_many_windows_tells_what_all_of_its_rows_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WINDOW_BLOCKS", 2)
    spec = runs.sft_spec(max_steps=None, num_train_epochs=1.5, max_length=24, per_device_train_batch_size=8)
    root = runs.sft_run(tmp_path / "run", 200, spec)
    assert runs.carry_out(root) == 0
    told = [event for event in runs.events(root, "log") if event["code"] == "rows_truncated"]
    first, whole = (event for event in told if "validation" not in event["message"])
    assert "of the first training rows" in first["message"]
    assert f"{whole['data']['count']} training rows" in whole["message"]
    assert whole["data"]["count"] > first["data"]["count"]


def test_a_bad_row_is_told_with_its_line_when_its_window_comes(tmp_path):
    path = text_file(tmp_path)
    lines = path.read_text().splitlines()
    lines[250] = '{"text": 3}'
    path.write_text("\n".join(lines))
    made = stream(supply(path, tmp_path / "cache"))
    with pytest.raises(DataError, match="line 251: text: text must be a string"):
        steps(made, 60)
