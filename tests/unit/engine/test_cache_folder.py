"""The cache folder of a worker: one limit for the blocks of data and the scores of references in it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from engine.data.cache import BlockCache
from engine.data.corpus import Corpus, Document
from engine.precision import Machine
from engine.reference import ReferenceCache
from engine.rundir import RunDirectory

LIMIT_BYTES = 64_000


def corpus(first: int, documents: int = 1000) -> Corpus:
    ids = np.array([first, 1], np.int32)
    return Corpus.of([Document(line, ids, np.ones(2, np.bool_), 1) for line in range(documents)])


def scores(of: Corpus) -> np.ndarray:
    return np.zeros(len(of), np.float32)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("TRAINYARD_CACHE_BYTES", str(LIMIT_BYTES))
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cache").symlink_to(shared)
    return RunDirectory(tmp_path / "run")


def held_bytes(run: RunDirectory) -> int:
    return sum(path.stat().st_size for path in run.cache.rglob("*.*"))


def date(path: Path, number: int) -> None:
    """Date files a second apart: the clock of a file system is too coarse for files that are written at once."""
    os.utime(path, (time.time() - 1000 + number,) * 2)


def references(run: RunDirectory) -> ReferenceCache:
    return ReferenceCache(run, Machine.choose("cpu", "fp32"))


def test_scores_of_references_stay_within_the_limit_and_the_oldest_used_go_first(run: RunDirectory) -> None:
    cache = references(run)
    made = [corpus(number) for number in range(40)]
    for number, each in enumerate(made):
        cache.keep(each, scores(each))
        date(cache._path(each), number)
        assert cache.find(made[0]) is not None, "what is used stays"
    assert LIMIT_BYTES // 2 < held_bytes(run) <= LIMIT_BYTES
    assert cache.find(made[1]) is None
    assert cache.find(made[-1]) is not None


def test_blocks_and_references_have_one_limit(run: RunDirectory) -> None:
    blocks, cache = BlockCache.of_run(run), references(run)
    for number in range(40):
        blocks.keep(f"{number:02}", corpus(number))
        date(blocks._path(f"{number:02}"), number)
        cache.keep(corpus(number), scores(corpus(number)))
        date(cache._path(corpus(number)), number)
    assert LIMIT_BYTES // 2 < held_bytes(run) <= LIMIT_BYTES + LIMIT_BYTES // 8, "each leaves a sixteenth to the other"
    assert blocks.find("39") is not None
    assert blocks.find("00") is None
    assert cache.find(corpus(39)) is not None
    assert cache.find(corpus(0)) is None


def test_scores_that_are_still_computed_count_and_are_the_last_to_go(run: RunDirectory) -> None:
    cache = references(run)
    begun = corpus(99)
    cache.keep_begun(begun, scores(begun))
    assert cache._part(begun).exists()
    for number in range(40):
        cache.keep(corpus(number), scores(corpus(number)))
        date(cache._path(corpus(number)), number)
        date(cache._part(begun), number)  # written again all the while
    assert not np.isnan(cache.begun(begun)).any()
