"""Preference optimization on real pairs against TRL's DPOTrainer, for the benchmarks of a CPU and of a GPU.

Both sides take the same pairs per step with the same optimizer, rate and schedule. TRL's defaults are bf16, activation
checkpointing and a live reference model; the like-for-like setting computes the reference before the first step, as ours
does, and has no checkpointing. The cost of the reference before the first step is in no figure.
"""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.harness import material
from benchmarks.harness.answers import OPTIMIZER, hyperparameters
from benchmarks.harness.race import Contest, Rows
from engine.data.corpus import Batch

PAIRS_PER_STEP = 8
STEPS = 6
RATE = 1e-5
SETTINGS: dict[str, Any] = {"per_device_train_batch_size": PAIRS_PER_STEP, "max_length": material.POSITIONS}


def contest(
    name: str, tuning: dict[str, Any], goals: dict[str, float], pairs_per_step: int = PAIRS_PER_STEP
) -> Contest:
    rows = material.pairs(STEPS * pairs_per_step)

    def rows_of(steps: list[list[Batch]], base: Path) -> Rows:
        """Render the prompt as text: TRL then ends both answers with EOS alone, as ours does."""
        tokenizer = AutoTokenizer.from_pretrained(base)
        taken = [rows[line - 1] for step in steps for batch in step for line in dict.fromkeys(batch.lines)]
        prompts = [row["prompt"] for row in taken]
        texts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
        return [row | {"prompt": text} for row, text in zip(taken, texts, strict=True)]

    return Contest(
        name=name,
        spec={
            "kind": "dpo",
            "model": "bench/1",
            "training_file": "file-bench",
            "tuning": tuning,
            "hyperparameters": hyperparameters(learning_rate=RATE),
        },
        data="".join(json.dumps(row) + "\n" for row in rows),
        rows_of=rows_of,
        given=OPTIMIZER | {"learning_rate": RATE, "train_sampling_strategy": "sequential"},
        known={
            "defaults": SETTINGS,
            "like for like": SETTINGS | {"precompute_ref_log_probs": True, "gradient_checkpointing": False},
        },
        goals=goals,
        unit="pairs",
        units_per_step=pairs_per_step,
        steps=STEPS,
    )
