"""The peer of `zero`: one rank of a plain training loop under accelerate and DeepSpeed.

`python accelerate_side.py TASK.json`: the task holds the base, the stage, the precision as accelerate names it, rows of
token ids and rows per step; the first rank prints a line of JSON with the seconds of each step and its loss.
"""

# The extra `peers` is installed for benchmarks and parity alone.
# pyright: reportMissingImports=false

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from transformers import AutoModelForCausalLM

_BETAS = (0.9, 0.95)


def accelerator_of(stage: int, rows: int, precision: str) -> Accelerator:
    """Configure DeepSpeed with the loop's own optimizer, as on our side."""
    config = {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": stage},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
    }
    accelerator = Accelerator(
        mixed_precision=precision,
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config),
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")],
    )
    assert accelerator.distributed_type == DistributedType.DEEPSPEED, accelerator.distributed_type
    assert accelerator.num_processes > 1, "each rank is told of the others by its environment"
    return accelerator


def steps_of(accelerator: Any, task: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return seconds and losses. Rows are split as our ranks split them: every second one is this rank's."""
    model = AutoModelForCausalLM.from_pretrained(task["base"], dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task["rate"], betas=_BETAS, weight_decay=task["decay"])
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    seconds, losses = [], []
    for step in task["steps"]:
        begun = time.perf_counter()
        ids = torch.tensor(step[accelerator.process_index :: accelerator.num_processes])
        loss = model(input_ids=ids, labels=ids).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(accelerator.reduce(loss.detach(), "mean").item())
        seconds.append(time.perf_counter() - begun)
    return seconds, losses


def main(task_file: Path) -> None:
    task = json.loads(task_file.read_text())
    accelerator = accelerator_of(task["stage"], task["rows_of_rank"], task["precision"])
    seconds, losses = steps_of(accelerator, task)
    if accelerator.is_main_process:
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
