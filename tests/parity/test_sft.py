"""Supervised fine-tuning follows TRL's SFTTrainer step by step."""

from pathlib import Path
from typing import Any

import pytest

from tests.parity import bases, ours, trl_side

EXACT = 1e-5
NOISES = 3.0
"""bf16 keeps 8 bits, so every matmul of both sides rounds differently; how far that leads is measured on TRL alone,
bf16 against fp32. Two runs that each stray that far are up to two such distances apart; the third is for the luck of
a single worst step."""
ROWS = 72
"""More than two epochs of nine full steps; packed, of twelve."""


def spec(tuning: str, *, packing: bool, precision: str) -> dict[str, Any]:
    shape = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2} if packing else {}
    hyperparameters = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2} | shape
    return {
        "tuning": {"method": tuning},
        "hyperparameters": {**hyperparameters, "packing": packing, "precision": precision},
    }


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_losses_and_gradient_norms_equal_those_of_trl(
    tmp_path: Path, llama: Path, adapter: Path, agrees: Any, tuning: str, packing: bool
) -> None:
    rows, start = bases.conversations(ROWS), adapter if tuning == "lora" else None
    name = f"SFT {tuning}, {'packed' if packing else 'not packed'}"
    exact, rounded = (
        ours.train(
            tmp_path / precision, rows, llama, adapter=start, **spec(tuning, packing=packing, precision=precision)
        )
        for precision in ("fp32", "bf16")
    )
    peer_exact, peer_rounded = (
        trl_side.sft(tmp_path / "trl", rows, exact.order, llama, adapter=start, precision=precision, packing=packing)
        for precision in ("fp32", "bf16")
    )
    agrees(f"{name}, fp32", ours.STEPS, exact.trajectory.distance(peer_exact), EXACT)
    noise = peer_rounded.distance(peer_exact)
    agrees(f"{name}, bf16", ours.STEPS, rounded.trajectory.distance(peer_rounded), NOISES * noise)


def test_rows_in_another_order_are_told_apart(tmp_path: Path, llama: Path) -> None:
    rows = bases.conversations(ROWS)
    run = ours.train(tmp_path / "ours", rows, llama, **spec("full", packing=False, precision="fp32"))
    peer = trl_side.sft(tmp_path / "trl", rows, run.order[::-1], llama)
    assert run.trajectory.distance(peer) > 100 * EXACT
