"""A run that was asked to stop, inside an evaluation too, goes on as the run that was not; what it needs for that."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine import process
from engine.errors import EXIT_STOPPED
from engine.stop import StopFlag
from tests import runs

EVALUATED = [2, 4, 6]


class StopAfter(StopFlag):
    """Asked to stop once a step is done: where an evaluation follows it, inside that evaluation."""

    def __init__(self, root: Path, step: int) -> None:
        super().__init__()
        self.root, self.step = root, step

    def check(self) -> None:
        self.requested = self.step in runs.losses(self.root)
        super().check()


def adapter_run(root: Path) -> Path:
    spec = runs.sft_spec(max_steps=EVALUATED[-1], learning_rate=0.005)
    spec["tuning"]["lora_dropout"] = 0.2
    return runs.sft_run(root, spec=spec)


def scores(root: Path) -> list[tuple[int, dict[str, float]]]:
    return [(e["step"], e["values"]) for e in runs.events(root, "metrics") if e["split"] == "eval"]


def told_of_checkpoints(root: Path) -> dict[int, tuple[bool, dict[str, float]]]:
    """Of a step that was saved twice, the later event."""
    return {e["step"]: (e["best"], e["metrics"]) for e in runs.events(root, "checkpoint")}


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "output" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    root = adapter_run(tmp_path_factory.mktemp("whole") / "run")
    assert runs.carry_out(root) == 0
    return root


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """Stopped inside the evaluation of step 4."""
    root = adapter_run(tmp_path_factory.mktemp("stopped") / "run")
    assert process.carry_out(root, StopAfter(root, 4)) == EXIT_STOPPED
    assert [step for step, _ in scores(root)] == [2]
    return root


@pytest.fixture
def went_on(stopped, tmp_path) -> Callable[..., Path]:
    """Goes on in a copy, after `lose` took something from what the newest checkpoint saved."""

    def go_on(lose: Callable[[dict[str, Any]], None] | None = None) -> Path:
        root = Path(shutil.copytree(stopped, tmp_path / "run"))
        if lose is not None:
            path = root / "checkpoints" / "step-00000004" / "state" / "trainer.pt"
            saved = torch.load(path, weights_only=True)
            lose(saved)
            torch.save(saved, path)
        assert runs.carry_out(root) == 0
        return root

    return go_on


def test_the_evaluation_that_a_stop_cut_short_is_made_first(whole, went_on):
    made = scores(went_on())
    assert [step for step, _ in made] == EVALUATED
    assert made == scores(whole)


def test_the_step_whose_evaluation_was_cut_short_may_be_the_best(whole, went_on):
    assert told_of_checkpoints(whole)[4][0], "step 4 was meant to be the best so far"
    assert told_of_checkpoints(went_on()) == told_of_checkpoints(whole)


def test_a_stopped_run_goes_on_to_the_same_losses_and_weights_bit_for_bit(whole, went_on):
    root = went_on()
    assert runs.losses(root) == runs.losses(whole)
    assert all(torch.equal(ours, weights(whole)[name]) for name, ours in weights(root).items())


def test_with_the_optimizer_s_state_lost_the_losses_differ(whole, went_on):
    root = went_on(lambda saved: saved["optimizer"].clear())
    assert runs.losses(root) != runs.losses(whole)


def test_a_run_that_is_stopped_before_its_first_step_saves_nothing_and_begins_anew(whole, tmp_path):
    root = adapter_run(tmp_path / "run")
    stop = StopFlag()
    stop.requested = True
    assert process.carry_out(root, stop) == EXIT_STOPPED
    assert runs.events(root, "checkpoint") == []
    assert runs.carry_out(root) == 0
    assert runs.losses(root) == runs.losses(whole)
