"""Which weights answer: what stays in memory is known by its content, not by where it lies."""

import shutil
from pathlib import Path

import pytest
import torch

from engine.chat import weights as under_test
from engine.chat.room import NotNow
from engine.chat.weights import Weights
from engine.errors import OutOfMemory
from engine.precision import Machine
from engine.rundir import RunDirectory
from tests import runs


@pytest.fixture
def weights() -> Weights:
    return Weights(Machine.choose("cpu", "auto"))


def test_the_same_bytes_in_two_run_directories_are_one_model_in_memory(weights: Weights, tmp_path: Path):
    runs.save_base(tmp_path / "one/model")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (weights.of(RunDirectory(tmp_path / name), {"model": "a"}) for name in ("one", "two"))
    assert one.model is two.model
    assert one.tokenizer is two.tokenizer


def test_other_bytes_in_the_place_of_the_first_are_another_model(weights: Weights, tmp_path: Path):
    widths = []
    for digest, width in (("a", 32), ("b", 64)):
        runs.save_base(tmp_path / "model", width=width)
        widths.append(weights.of(RunDirectory(tmp_path), {"model": digest}).model.config.hidden_size)
        shutil.rmtree(tmp_path / "model")
    assert widths == [32, 64]


def with_memory_for(monkeypatch: pytest.MonkeyPatch, weights: Weights, most: int) -> None:
    """Let the memory be as large as so many bases of one size."""
    monkeypatch.setattr(under_test, "_loaded_bytes", lambda *_, **__: 10)
    monkeypatch.setattr(under_test, "unused_bytes", lambda _: 10 * (most - len(weights._bases)))


def test_idle_bases_leave_memory_for_one_that_would_not_fit(weights: Weights, tmp_path: Path, monkeypatch):
    runs.save_base(tmp_path / "model")
    with_memory_for(monkeypatch, weights, 1)
    for digest in ("a", "b"):
        weights.of(RunDirectory(tmp_path), {"model": digest})
    assert list(weights._bases) == ["b False"]


def test_a_base_that_does_not_fit_waits_for_those_in_use_or_is_refused(weights: Weights, tmp_path: Path, monkeypatch):
    runs.save_base(tmp_path / "model")
    with_memory_for(monkeypatch, weights, 1)
    weights.of(RunDirectory(tmp_path), {"model": "a"})
    monkeypatch.setattr(under_test, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(NotNow):
        weights.of(RunDirectory(tmp_path), {"model": "b"}, ["a False"])
    with_memory_for(monkeypatch, weights, 0)
    with pytest.raises(OutOfMemory, match="weights of the model"):
        weights.of(RunDirectory(tmp_path), {"model": "b"})


def test_weights_are_counted_in_the_type_in_which_they_are_loaded(tmp_path: Path):
    folder = runs.save_base(tmp_path / "model")
    stored = (folder / "model.safetensors").stat().st_size
    sizes = [
        under_test._loaded_bytes(folder, dtype, in_4bit=in_4bit)
        for dtype, in_4bit in ((torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True))
    ]
    assert sizes == pytest.approx([stored, stored / 2, stored / 8], abs=4)
