"""Pre-training of a 1B Llama at 4,096 tokens of context: the share of the GPU's own matmul rate that is used.

The rate is measured by the engine at its start, in the same process and type. There is no peer.
"""

import json
import tempfile
from pathlib import Path

from benchmarks.harness import engine_side, gpu_size, material
from benchmarks.harness.answers import OPTIMIZER
from benchmarks.harness.report import emit, versions

GOAL = 0.55
STEPS = 12


def main() -> None:
    how = gpu_size.read()
    steps = engine_side.WARM_UP + 2 if how.small else STEPS
    spec = {
        "kind": "pretrain",
        "model": "bench/1",
        "training_file": "file-bench",
        "resources": {"device": how.device},
        "checkpoints": {"save_steps": steps},
        "hyperparameters": {
            **OPTIMIZER,
            "max_steps": steps,
            "max_length": how.shape["max_position_embeddings"],
            "per_device_train_batch_size": 1 if how.small else 4,
            "gradient_accumulation_steps": 1 if how.small else 4,
            "precision": "bf16",
        },
    }
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as folder:
        base = how.save_base(Path(folder) / "base")
        row = json.dumps({"text": material.TEXT.read_text(encoding="utf-8")})
        root = engine_side.write_run(Path(folder) / "run", spec, row + "\n", base=base)
        run = engine_side.measure(root, steps, "tokens")
    share = run.mfu or 0.0
    result = {
        "name": "gpu-pretrain",
        "ours": round(share, 3),
        "peer": None,
        "ratio": share / GOAL,
        "goal": f"{GOAL:.0%} of the bf16 matmul rate measured in the same run",
        "holds": share >= GOAL,
        "tokens_per_s": round(run.per_wall_s, 1),
        "versions": versions("torch", "transformers"),
    }
    emit(result, keeps=not how.small)


if __name__ == "__main__":
    main()
