"""Which weights answer: what stays in memory is known by its content, not by where it lies."""

import shutil
from pathlib import Path

import pytest

from engine.chat.weights import Weights
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


def test_other_bytes_in_the_place_of_the_first_are_another_model(weights: Weights, tmp_path: Path):
    widths = []
    for digest, width in (("a", 32), ("b", 64)):
        runs.save_base(tmp_path / "model", width=width)
        widths.append(weights.of(RunDirectory(tmp_path), {"model": digest}).model.config.hidden_size)
        shutil.rmtree(tmp_path / "model")
    assert widths == [32, 64]
