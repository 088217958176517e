"""Tuning over a base in 4 bits follows PEFT and bitsandbytes under TRL's trainer step by step."""

from pathlib import Path
from typing import Any

from tests.parity import bases, ours, trl_side

TOLERANCE = 1e-4
ROWS = 72


def test_losses_and_gradient_norms_equal_those_of_peft_and_bitsandbytes(
    tmp_path: Path, llama: Path, adapter: Path, agrees: Any
) -> None:
    rows = bases.conversations(ROWS)
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "packing": False}
    spec = {"tuning": {"method": "qlora"}, "hyperparameters": {**shape, "precision": "fp32"}}
    run = ours.train(tmp_path / "ours", rows, llama, adapter=adapter, **spec)
    peer = trl_side.sft(tmp_path / "trl", rows, run.order, llama, adapter=adapter, in_4bit=True)
    unquantized = trl_side.sft(tmp_path / "trl", rows, run.order, llama, adapter=adapter)
    assert run.trajectory.distance(unquantized) > 100 * TOLERANCE, "four bits must show"
    agrees("QLoRA (NF4, double quantization), fp32", ours.STEPS, run.trajectory.distance(peer), TOLERANCE)
