"""Pre-training of a 28M Llama on Shakespeare, against transformers' Trainer: tokens per CPU-second.

Full rows of 512 tokens, eight per step, the same rows on both sides in the same order. The Trainer's best setting is
searched for: attention, bf16 or fp32, compiled or not; nothing is padded or checkpointed.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.harness import material, race
from benchmarks.harness.answers import OPTIMIZER, hyperparameters
from benchmarks.harness.race import Contest, Rows
from engine.data.corpus import Batch

ROWS_PER_STEP = 8
RATE = 1e-3
SETTINGS: dict[str, Any] = {"per_device_train_batch_size": ROWS_PER_STEP, "bf16": True}


def rows_of(steps: list[list[Batch]], _: Path) -> Rows:
    """Return each row with the token after it: the Trainer shifts labels itself, so 513 tokens have 512 labels."""
    rows = []
    for batch in (batch for step in steps for batch in step):
        assert set(batch.segments) == {material.POSITIONS}, "every row is full"
        pairs = zip(batch.ids_T.split(material.POSITIONS), batch.labels_N.split(material.POSITIONS), strict=True)
        rows += [torch.cat([ids[:1], labels]).tolist() for ids, labels in pairs]
    return [{"input_ids": row, "labels": row} for row in rows]


def full_rows() -> str:
    """Cut the text into documents that fill one row each, in whole steps: begin token, 511 tokens, and the next one."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        tokenizer: Any = AutoTokenizer.from_pretrained(material.save_base(Path(folder)))
    ids = tokenizer(material.TEXT.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    size = material.POSITIONS - 1
    texts = tokenizer.batch_decode([ids[start : start + size] for start in range(0, len(ids), size)])
    again = tokenizer(texts, add_special_tokens=False)["input_ids"]
    full = [text for text, tokens in zip(texts, again, strict=True) if len(tokens) == size]
    return "".join(json.dumps({"text": text}) + "\n" for text in full[: len(full) // ROWS_PER_STEP * ROWS_PER_STEP])


def main() -> None:
    race.run(
        Contest(
            name="pretrain",
            spec={
                "kind": "pretrain",
                "model": "bench/1",
                "training_file": "file-bench",
                "hyperparameters": hyperparameters(learning_rate=RATE),
            },
            data=full_rows(),
            rows_of=rows_of,
            given=OPTIMIZER | {"learning_rate": RATE, "train_sampling_strategy": "sequential"},
            known={"bf16": SETTINGS},
            stages=[
                {"sdpa": SETTINGS, "eager": SETTINGS | {"attn_implementation": "eager"}},
                {"fp32": {"bf16": False}},
                {"compiled": {"torch_compile": True}},
            ],
            goals={"best": 1.5},
            units_per_step=ROWS_PER_STEP * material.POSITIONS,
            utilization_goal=0.55,
        )
    )


if __name__ == "__main__":
    main()
