"""Does DPO learn preferences? Held-out pairs of hh-rlhf, against taking the shorter (or the longer) answer.

A small base model is trained on the training part as text, then on its 1,000 pairs, and judges 500 unseen ones.
Everything runs through run directories, as a worker would start it.
"""

import argparse
import gzip
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.chain import carried_out, lines
from benchmarks.harness.report import emit
from benchmarks.harness.service import REPOSITORY
from engine.rows import Message, Preference, RowError, parse_row

PAIRS = REPOSITORY.parent / "shared/data/hh_rlhf/harmless_base_test_first1500.jsonl.gz"
TRAINED = 1000
Z = 1.96
"""The half-width of a 95% interval in standard deviations."""

BASE: dict[str, Any] = {
    "kind": "pretrain",
    "model": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "tokenizer": {"vocab_size": 4096},
    "training_file": "file-dialogues",
    "hyperparameters": {
        "num_train_epochs": 5,
        "per_device_train_batch_size": 8,
        "max_length": 512,
        "learning_rate": 2e-3,
    },
}
DPO: dict[str, Any] = {
    "kind": "dpo",
    "model": "base/1",
    "training_file": "file-pairs",
    "validation_file": "file-heldout",
    "tuning": {"method": "full"},
    "dpo": {"beta": 0.1},
    "hyperparameters": {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "max_length": 512,
        "learning_rate": 1e-4,
    },
    "checkpoints": {"save_steps": 1_000_000, "eval_steps": 1_000_000},  # at the end alone: nothing is chosen by it
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, default=PAIRS)
    arguments = parser.parse_args()
    if not arguments.pairs.is_file():
        parser.error(f"{arguments.pairs} is not there; give the pairs of hh-rlhf with --pairs FILE.jsonl.gz")
    pairs = list(readable(arguments.pairs))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        texts = [{"text": dialogue(pair)} for pair in pairs[:TRAINED]]
        base = carried_out(root / "base", BASE, {"train.jsonl": lines(texts)})
        print(f"base: {base['parameters']:,} weights, loss {base['eval_loss']:.3f} on held-out dialogues", flush=True)
        data = {"train.jsonl": lines(pairs[:TRAINED]), "validation.jsonl": lines(pairs[TRAINED:])}
        told = carried_out(root / "dpo", DPO, data, model=root / "base/output")
    emit(result(told["eval_accuracy"], told["eval_length_baseline"], int(told["eval_rows"])))


def readable(path: Path) -> Iterator[Preference]:
    """Return the pairs of the file, without those that have an empty answer."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            try:
                row: Any = parse_row(json.loads(text), "preference")
            except RowError as error:
                print(f"line {line} is left out: {error}")
            else:
                yield row


def dialogue(pair: Preference) -> str:
    """Render prompt and chosen answer as the chat template of a new tokenizer does."""
    return "".join(map(turn, [*pair["prompt"], *pair["chosen"]]))


def turn(message: Message) -> str:
    end = "<|endoftext|>" if message["role"] == "assistant" else "<|end|>"
    return f"<|{message['role']}|>\n{message['content']}{end}\n"


def result(accuracy: float, baseline: float, pairs: int) -> dict[str, Any]:
    """Compare with the baseline, which must lie below the 95% interval of the accuracy (Wilson 1927)."""
    centre = (accuracy + Z**2 / (2 * pairs)) / (1 + Z**2 / pairs)
    half = Z * math.sqrt(accuracy * (1 - accuracy) / pairs + Z**2 / (4 * pairs**2)) / (1 + Z**2 / pairs)
    low, high = centre - half, centre + half
    holds = low > baseline
    verdict = "well above" if holds else "not well above"
    print(f"accuracy {accuracy:.1%} of {pairs} held-out pairs, 95% interval {low:.1%} to {high:.1%}:")
    print(f"{verdict} the length baseline of {baseline:.1%}", flush=True)
    return {
        "name": "preference",
        "ours": round(accuracy, 4),
        "peer": round(baseline, 4),
        "ratio": accuracy / baseline,
        "goal": "the length baseline below the 95% interval of the held-out accuracy",
        "holds": holds,
    }


if __name__ == "__main__":
    main()
