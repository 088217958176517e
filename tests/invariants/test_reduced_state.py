"""fp16 with its loss scale and 8-bit optimizer states: gone on from a checkpoint as if nothing had been between."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.errors import EXIT_DIVERGED
from engine.precision import LossScale
from tests import runs

STEPS = 8
HALF = STEPS // 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Any:
    """A run in fp16 whose loss scale moves every other step."""
    root = tmp_path_factory.mktemp("reduced") / "whole"
    spec = runs.sft_spec(max_steps=STEPS, precision="fp16", optim="adamw_8bit", learning_rate=0.001)
    spec |= {"tuning": {"method": "full"}, "checkpoints": {"save_steps": HALF}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossScale, "STEPS_TO_GROW", 2)
        patch.setattr(LossScale, "FIRST", 2.0**10)
        assert runs.carry_out(runs.sft_run(root, spec=spec)) == 0
        yield root


def figures(root: Path, name: str) -> dict[int, Any]:
    return {e["step"]: e["values"][name] for e in runs.events(root, "metrics") if e["split"] == "train"}


def gone_on_with(whole: Path, root: Path, **progress: Any) -> Path:
    """The second half again, in a copy; `progress` tampers with the checkpoint."""
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("output", "events.jsonl", f"step-*{STEPS}"))
    path = root / "checkpoints" / f"step-{HALF:08d}" / "state" / "progress.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | progress))
    assert runs.carry_out(root) == 0
    return root


def test_weights_losses_and_scale_are_the_same_bit_for_bit(whole, tmp_path):
    again = gone_on_with(whole, tmp_path / "run")
    for name in ("loss", "grad_norm", "loss_scale"):
        expected = figures(whole, name)
        assert figures(again, name) == {step: expected[step] for step in range(HALF + 1, STEPS + 1)}
    ours, theirs = (load_file(root / "output" / "model.safetensors") for root in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_with_its_state_lost_the_scale_differs(whole, tmp_path):
    again = gone_on_with(whole, tmp_path / "run", loss_scale=None, steps_at_scale=0)
    assert figures(again, "loss_scale")[STEPS] != figures(whole, "loss_scale")[STEPS]


def test_a_step_that_overflows_is_skipped_and_told(whole, tmp_path):
    again = gone_on_with(whole, tmp_path / "run", loss_scale=2.0**40)
    skipped = [e["data"]["step"] for e in runs.events(again, "log") if e["code"] == "step_skipped"]
    assert skipped[:2] == [HALF + 1, HALF + 2]
    assert figures(again, "grad_norm")[HALF + 1] is None
    assert figures(again, "loss_scale")[HALF + 1] == 2.0**39


def test_a_loss_that_is_no_number_diverges_in_fp16_too(tmp_path):
    spec = runs.sft_spec(max_steps=2, precision="fp16", learning_rate=10.0, max_grad_norm=0)
    root = runs.sft_run(tmp_path / "run", spec=spec | {"tuning": {"method": "full"}})
    assert runs.carry_out(root) == EXIT_DIVERGED
