"""Optimizer state saved by any number of ranks: any part of a tensor can be read, and torn files are named."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine import shards
from engine.dist.strategy import dealt
from engine.errors import EngineError
from engine.shards import Cut, Piece, Stored
from tests.unit.engine.test_optim import resident_file_bytes

SHAPE = (6, 4, 5)
WHOLE = torch.arange(120.0).reshape(SHAPE)
CUTS: dict[str, list[Cut]] = {
    "its rows": [Cut(0, start, 2) for start in (0, 2, 4)],
    "its columns": [Cut(1, start, 2) for start in (0, 2)],
    "its numbers": [Cut(None, 0, 7), Cut(None, 7, 100), Cut(None, 107, 13)],
}
SAVED = {"one file": [None], **CUTS}
WANTED: list[Cut | None] = [None, *itertools.chain(*CUTS.values()), Cut(0, 1, 3), Cut(None, 5, 110)]


def piece(cut: Cut | None) -> Any:
    return WHOLE if cut is None else Piece(SHAPE, cut, cut.of(WHOLE))


def saved(folder: Path, *values: Any) -> Path:
    for number, value in enumerate(values):
        shards.write(folder / shards.name_of(number, len(values)), [{"w": {"step": torch.tensor(3.0), "mean": value}}])
    return folder


@pytest.mark.parametrize("wanted", WANTED, ids=str)
@pytest.mark.parametrize("how", SAVED)
def test_a_part_is_read_however_it_was_saved(tmp_path, how, wanted):
    values = Stored(saved(tmp_path, *map(piece, SAVED[how])))["w"].cut(wanted)
    assert torch.equal(values["mean"], WHOLE if wanted is None else wanted.of(WHOLE))
    assert float(values["step"]) == 3


@pytest.mark.parametrize("how", SAVED)
def test_the_shape_of_the_whole_is_known(tmp_path, how):
    assert Stored(saved(tmp_path, *map(piece, SAVED[how]))).shapes() == {"w": {"step": (), "mean": SHAPE}}


def test_what_is_read_is_a_copy_of_its_own(tmp_path):
    stored = Stored(saved(tmp_path, WHOLE))
    stored["w"]["mean"].zero_()
    assert torch.equal(stored["w"]["mean"], WHOLE)


def test_what_was_brought_from_elsewhere_lies_in_the_same_file(tmp_path):
    states = [{"w": {"mean": piece(cut)}} for cut in CUTS["its columns"]]
    shards.write(tmp_path / shards.name_of(0, 1), states, rng={"seed": 1})
    stored = Stored(tmp_path)
    assert torch.equal(stored["w"]["mean"], WHOLE)
    assert stored.beside["rng"] == {"seed": 1}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_file_is_named(tmp_path, number):
    name = shards.name_of(number, 3)
    (saved(tmp_path, *map(piece, CUTS["its rows"])) / name).unlink()
    with pytest.raises(EngineError, match=f"{name} is missing"):
        Stored(tmp_path)


def test_a_folder_without_a_file_misses_its_only_one(tmp_path):
    with pytest.raises(EngineError, match=r"trainer\.pt is missing"):
        Stored(tmp_path)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
@pytest.mark.parametrize("number", [0, 1])
def test_a_torn_file_is_named(tmp_path, number, kept):
    path = saved(tmp_path, *map(piece, CUTS["its columns"])) / shards.name_of(number, 2)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(EngineError, match=f"{path.name} is torn"):
        Stored(tmp_path)


def test_a_part_that_no_file_has_is_named(tmp_path):
    first, _, last = map(piece, CUTS["its numbers"])
    values = Stored(saved(tmp_path, first, last))["w"]
    with pytest.raises(EngineError, match="a part of mean of w is in no file"):
        _ = values["mean"]
    assert torch.equal(values.cut(Cut(None, 110, 5))["mean"], WHOLE.view(-1)[110:115])


def test_what_was_read_does_not_stay_resident(tmp_path):
    large = torch.ones(1 << 24)
    cuts = [Cut(None, start, 1 << 23) for start in (0, 1 << 23)]
    stored = Stored(saved(tmp_path, *(Piece((1 << 24,), cut, cut.of(large).clone()) for cut in cuts)))
    before = resident_file_bytes()
    half: Tensor = stored["w"].cut(Cut(None, 1 << 22, 1 << 23))["mean"]
    assert resident_file_bytes() - before < half.nbytes / 8
    assert float(half.sum()) == 1 << 23


@pytest.mark.parametrize("count", [1, 2, 3, 4, 40])
def test_names_are_dealt_out_once_and_in_shares_of_about_one_size(count):
    sizes = {f"layer {number}": 100 + number for number in range(30)}
    shares = dealt(sizes, [0] * count)
    assert len(shares) == count
    assert sorted(itertools.chain(*shares)) == sorted(sizes)
    held = [sum(sizes[name] for name in share) for share in shares]
    assert max(held) - min(held) <= max(sizes.values())


def test_who_holds_more_already_is_dealt_less():
    assert dealt({"large": 5, "small": 2, "less": 1}, [4, 0]) == [{"small"}, {"large", "less"}]
