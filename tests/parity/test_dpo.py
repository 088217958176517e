"""Direct preference optimization follows TRL's DPOTrainer step by step, for each loss that both have."""

from pathlib import Path
from typing import Any

import pytest

from tests.parity import bases, ours, trl_side
from tests.parity.test_sft import EXACT, NOISES

ROWS = 72
LOSSES: list[dict[str, Any]] = [
    {"loss_type": "sigmoid", "beta": 0.1},
    {"loss_type": "hinge", "beta": 0.1},
    {"loss_type": "ipo", "beta": 0.1},
    {"loss_type": "robust", "beta": 0.1, "label_smoothing": 0.1},
    {"loss_type": "sigmoid_norm", "beta": 2.0},
]


def spec(loss: dict[str, Any], tuning: str, precision: str) -> dict[str, Any]:
    shape = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "packing": False}
    return {
        "kind": "dpo",
        "dpo": loss,
        "tuning": {"method": tuning},
        "hyperparameters": {**shape, "precision": precision},
    }


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["loss_type"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_losses_and_gradient_norms_equal_those_of_trl(
    tmp_path: Path, llama: Path, adapter: Path, agrees: Any, loss: dict[str, Any], tuning: str
) -> None:
    rows, start = bases.pairs(ROWS), adapter if tuning == "lora" else None
    exact, rounded = (
        ours.train(tmp_path / precision, rows, llama, adapter=start, **spec(loss, tuning, precision))
        for precision in ("fp32", "bf16")
    )
    peer_exact, peer_rounded = (
        trl_side.dpo(tmp_path / "trl", rows, exact.order, llama, loss, adapter=start, precision=precision)
        for precision in ("fp32", "bf16")
    )
    name = f"DPO {tuning}, {loss['loss_type']}"
    agrees(f"{name}, fp32", ours.STEPS, exact.trajectory.distance(peer_exact), EXACT)
    noise = peer_rounded.distance(peer_exact)
    agrees(f"{name}, bf16", ours.STEPS, rounded.trajectory.distance(peer_rounded), NOISES * noise)
