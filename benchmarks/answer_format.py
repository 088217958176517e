"""Does fine-tuning teach a format? The share of GSM8K answers that end in `#### number`, before and after.

A small base model is trained on questions and solutions without that line, then tuned on rows with it, and both models
answer held-out questions. Only the format is measured: a model of this size does not learn to calculate.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness.chain import carried_out, lines
from benchmarks.harness.report import emit
from benchmarks.harness.service import REPOSITORY

LOW, HIGH = 0.05, 0.90
TEMPERATURE = 0.7
"""Greedy answers of small models can loop and never reach the line; both are reported, sampled ones count."""

BASE: dict[str, Any] = {
    "kind": "pretrain",
    "model": {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6},
    "tokenizer": {"vocab_size": 2048},
    "training_file": "file-texts",
    "validation_file": None,
    "hyperparameters": {"num_train_epochs": 6, "max_length": 512, "learning_rate": 2e-3},
}
SFT: dict[str, Any] = {
    "kind": "sft",
    "model": "base/1",
    "training_file": "file-rows",
    "validation_file": None,
    "tuning": {"method": "full"},
    "hyperparameters": {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 4,
        "max_length": 512,
        "learning_rate": 1e-3,
    },
}


def evaluation(temperature: float) -> dict[str, Any]:
    settings = {"task": "generate", "max_new_tokens": 320, "temperature": temperature, "per_device_eval_batch_size": 50}
    return {"kind": "eval", "model": "sft/1", "eval_file": "file-heldout", "evaluation": settings}


def main() -> None:
    rows = [json.loads(line) for line in (REPOSITORY / "examples/gsm8k_train.jsonl").read_text().splitlines()]
    held_out = (REPOSITORY / "examples/gsm8k_heldout.jsonl").read_text()
    texts = [{"text": f"{row['prompt']}\n{row['completion'].partition('#### ')[0]}"} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        base = carried_out(root / "base", BASE, {"train.jsonl": lines(texts)})
        carried_out(root / "sft", SFT, {"train.jsonl": lines(rows)}, model=root / "base/output")
        found = {
            (stage, temperature): carried_out(
                root / f"{stage}-at-{temperature:g}",
                evaluation(temperature),
                {"eval.jsonl": held_out},
                model=root / stage / "output",
            )
            for stage in ("base", "sft")
            for temperature in (0.0, TEMPERATURE)
        }
    print(f"{base['parameters']:,} weights; answers of {found['sft', 0.0]['eval_rows']:.0f} held-out questions that")
    for (stage, temperature), told in found.items():
        print(f"  {stage} at temperature {temperature:g}: {told['eval_parseable']:.1%} end in a number after ####")
    before, after = (found[stage, TEMPERATURE]["eval_parseable"] for stage in ("base", "sft"))
    emit({
        "name": "answer_format",
        "ours": after,
        "peer": before,
        "ratio": after / max(before, 1 / found["base", TEMPERATURE]["eval_rows"]),
        "goal": f"under {LOW:.0%} parseable before, over {HIGH:.0%} after",
        "holds": before < LOW and after > HIGH,
    })  # fmt: skip


if __name__ == "__main__":
    main()
