"""Small runs that several ranks carry out, and what is compared of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import runs

STEPS, SAVE_STEPS = 20, 10
GIVEN = {"max_steps": STEPS, "precision": "fp32", "per_device_train_batch_size": 4, "learning_rate": 0.002}
DROPOUT = {"method": "lora", "r": 4, "lora_dropout": 0.2}
FULL = {"method": "full"}


def training(spec: dict[str, Any], tuning: dict[str, Any]) -> dict[str, Any]:
    return spec | {"tuning": tuning, "checkpoints": {"save_steps": SAVE_STEPS}}


def sft(tuning: dict[str, Any], **more: Any) -> Callable[[Path], Path]:
    return lambda root: runs.sft_run(root, 120, training(runs.sft_spec(**GIVEN, **more), tuning))


def dpo(tuning: dict[str, Any]) -> Callable[[Path], Path]:
    return lambda root: runs.dpo_run(root, 120, training(runs.dpo_spec(**GIVEN), tuning))


def qlora(root: Path) -> Path:
    return runs.quantized_run(root, training(runs.sft_spec(**GIVEN), {"method": "qlora", "r": 4, "lora_dropout": 0.2}))


def pretrain(root: Path) -> Path:
    runs.pretrain_run(root, **GIVEN)
    job = json.loads((root / "job.json").read_text())
    return runs.write_job(root, job["spec"] | {"checkpoints": {"save_steps": SAVE_STEPS}})


RUNS: dict[str, Callable[[Path], Path]] = {
    "pretrain": pretrain,
    "sft full": sft(FULL, gradient_accumulation_steps=2),
    "sft lora": sft(DROPOUT, packing=False),
    "sft qlora": qlora,
    "dpo full": dpo(FULL),
    "dpo lora": dpo(DROPOUT),
}


def finished(processes: list[Any]) -> None:
    for process in processes:
        told, _ = process.communicate(timeout=200)
        assert process.returncode == 0, told[-3000:]


def from_checkpoint(whole: Path, root: Path) -> Path:
    """A run that has nothing but the first checkpoint of another."""
    skipped = shutil.ignore_patterns("events.jsonl", "ranks", "output", "rows.bin", f"step-{STEPS:08d}")
    return Path(shutil.copytree(whole, root, ignore=skipped))


def scores(root: Path) -> dict[int, float]:
    return {e["step"]: e["values"]["eval_loss"] for e in runs.events(root, "metrics") if e["split"] == "eval"}


def check_same(one: Path, other: Path, *, begun: int = 0) -> None:
    """Losses after step `begun`, the last evaluation and the result."""
    expected = {step: loss for step, loss in runs.losses(one).items() if step > begun}
    assert runs.losses(other) == pytest.approx(expected, rel=1e-6)
    assert scores(other)[STEPS] == pytest.approx(scores(one)[STEPS], rel=1e-6)
    ours, theirs = (load_file(next((root / "output").glob("*.safetensors"))) for root in (other, one))
    assert ours.keys() == theirs.keys()
    for tensor, expected_tensor in theirs.items():
        torch.testing.assert_close(ours[tensor], expected_tensor, rtol=1e-4, atol=2e-5)
