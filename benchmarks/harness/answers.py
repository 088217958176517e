"""Fine-tuning on real answers against TRL's SFTTrainer: what sft, lora and qlora have in common.

The rows are instructions of many kinds, whose lengths differ widely; `ROWS=gsm8k` takes arithmetic questions of similar
length, so that padding costs TRL less. Both sides take the same eight rows per step, in the same order, with the loss on
the answers alone and the same optimizer, rate and schedule. TRL's defaults are bf16, padded batches of eight and
activation checkpointing. Its best setting is searched for: batches of fewer rows, grouping by length, no padding,
packing, and fp32. Two of its options are left out: Liger's kernels need Triton and do not run on a CPU, and weights in
bf16 without master weights lose updates, so they would not be the same training.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import material, race
from benchmarks.harness.race import Contest, Rows
from engine.data.corpus import Batch

ROWS_PER_STEP = 8
FILE_ROWS = 160
POSITIONS = 1024
"""TRL's default `max_length`; no row is longer."""
RATE = 1e-4
OPTIMIZER: dict[str, Any] = {
    "learning_rate": RATE,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0,
    "adam_beta2": 0.95,
}
DEFAULTS: dict[str, Any] = {"per_device_train_batch_size": ROWS_PER_STEP, "max_length": POSITIONS}
_PLAIN = DEFAULTS | {"gradient_checkpointing": False}
STAGES: list[dict[str, dict[str, Any]]] = [
    {
        "no checkpointing": _PLAIN,
        "no checkpointing, 2 rows": _PLAIN | {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        "no checkpointing, 1 row": _PLAIN | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        "no checkpointing, by length": _PLAIN | {"train_sampling_strategy": "group_by_length"},
        "no checkpointing, padding-free": _PLAIN | {"padding_free": True, "max_length": None},
        "no checkpointing, packing": _PLAIN | {"packing": True, "per_device_train_batch_size": 2},
    },
    {"fp32": {"bf16": False}},
]
ROWS: dict[str, Callable[[int], Rows]] = {"instructions": material.instructions, "gsm8k": material.conversations}


def run(name: str, tuning: dict[str, Any], goals: dict[str, float]) -> None:
    """Run the whole benchmark on the rows chosen on the command line; its last line is the result."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rows", choices=ROWS, default="instructions")
    options, rest = parser.parse_known_args()
    name = name if options.rows == "instructions" else f"{name}-{options.rows}"
    race.run(contest(name, tuning, goals, ROWS[options.rows](FILE_ROWS)), rest)


def hyperparameters(**more: Any) -> dict[str, Any]:
    """Return our hyperparameters for a spec."""
    return {
        **OPTIMIZER,
        "per_device_train_batch_size": ROWS_PER_STEP,
        "max_length": material.POSITIONS,
        "packing": False,  # the same rows a step as the peer; they are not padded either way
        "precision": "bf16",
        **more,
    }


def contest(name: str, tuning: dict[str, Any], goals: dict[str, float], rows: Rows) -> Contest:
    def rows_of(steps: list[list[Batch]], _: Path) -> Rows:
        return [rows[line - 1] for step in steps for batch in step for line in batch.lines]

    return Contest(
        name=name,
        spec={
            "kind": "sft",
            "model": "bench/1",
            "training_file": "file-bench",
            "tuning": tuning,
            "hyperparameters": hyperparameters(max_length=POSITIONS),
        },
        data="".join(json.dumps(row) + "\n" for row in rows),
        rows_of=rows_of,
        given=OPTIMIZER | {"train_sampling_strategy": "sequential", "assistant_only_loss": True},
        known={"defaults": DEFAULTS},
        stages=STAGES,
        goals=goals,
        save_base=partial(material.save_base, shape=material.SHAPE | {"max_position_embeddings": POSITIONS}),
    )
