"""nanoGPT's character-level Shakespeare on a CPU: 4 layers, 128 wide, 64 characters of context, 2,000 steps.

nanoGPT's README (github.com/karpathy/nanoGPT) reports a validation loss of 1.88 for that setting. Both use the same
split: the first nine tenths of the text are trained on.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness.chain import carried_out
from benchmarks.harness.report import emit
from benchmarks.harness.service import REPOSITORY

NANOGPT = 1.88
TEXT = REPOSITORY.parent / "shared/data/text/tinyshakespeare.txt"

SPEC: dict[str, Any] = {
    "kind": "pretrain",
    "model": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    "tokenizer": {"type": "char"},
    "training_file": "file-train",
    "validation_file": "file-validation",
    "hyperparameters": {
        "max_steps": 2000,
        "per_device_train_batch_size": 12,
        "max_length": 64,
        "learning_rate": 1e-3,
        "min_lr_rate": 0.1,
        "warmup_steps": 100,
        "adam_beta2": 0.99,
        "weight_decay": 0.1,
    },
    "checkpoints": {"save_steps": 2000, "eval_steps": 500},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, default=TEXT, help="the 1,115,394 characters of tiny Shakespeare")
    arguments = parser.parse_args()
    if not arguments.text.is_file():
        parser.error(f"{arguments.text} is not there; give tiny Shakespeare with --text FILE.txt")
    text = arguments.text.read_text(encoding="utf-8")
    parted = len(text) * 9 // 10
    with tempfile.TemporaryDirectory() as folder:
        data = {"train.txt": text[:parted], "validation.txt": text[parted:]}
        told = carried_out(Path(folder) / "characters", SPEC, data)
    loss = told["eval_loss"]
    print(f"{told['parameters']:,} weights, validation loss {loss:.4f} after {told['total_steps']} steps")
    emit({
        "name": "characters",
        "ours": round(loss, 4),
        "peer": NANOGPT,
        "ratio": loss / NANOGPT,
        "goal": f"validation loss at most {NANOGPT}",
        "holds": loss <= NANOGPT,
    })  # fmt: skip


if __name__ == "__main__":
    main()
