"""The peer of a training benchmark, in its own process: TRL's trainers, and transformers' Trainer for pre-training.

`python trainer_side.py TASK.json RESULTS.jsonl`: the task holds the kind, base, adapter, rows and a list of runs, each
with a name, its steps and its settings; each run becomes a line of results.
"""

# The extra `peers` is installed for benchmarks and parity alone.
# pyright: reportMissingImports=false

import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

disable_progress_bars()

QUIET: dict[str, Any] = {
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.bfloat16,
)


class Watch(TrainerCallback):
    """Record CPU and wall-clock seconds of this process at the end of each step, and the trainer's logs."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []
        self.logs: list[dict[str, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.ends.append((usage.ru_utime + usage.ru_stime, time.perf_counter()))

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs is not None and "grad_norm" in logs:
            self.logs.append(logs)


def model_of(task: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Load the base in fp32 as TRL does (in 4 bits for qlora), with the adapter around it."""
    how: dict[str, Any] = {"attn_implementation": settings.pop("attn_implementation", "sdpa")}
    if task["method"] == "qlora":
        how |= {"quantization_config": NF4, "device_map": {"": task["device"]}}
    model = AutoModelForCausalLM.from_pretrained(task["base"], dtype=torch.float32, **how)
    if task["method"] == "full":
        return model
    return PeftModel.from_pretrained(model, task["adapter"], is_trainable=True)


def trainer_of(task: dict[str, Any], settings: dict[str, Any], watch: Watch) -> Trainer:
    model = model_of(task, settings)
    dataset = Dataset.from_list(task["rows"])
    tokenizer = AutoTokenizer.from_pretrained(task["base"])
    if task["kind"] == "pretrain":
        arguments = TrainingArguments(**settings)
        return Trainer(model, arguments, train_dataset=dataset, data_collator=default_data_collator, callbacks=[watch])
    how: dict[str, Any] = {"train_dataset": dataset, "processing_class": tokenizer, "callbacks": [watch]}
    if task["kind"] == "dpo":
        return DPOTrainer(model, args=DPOConfig(**settings), **how)
    return SFTTrainer(model, args=SFTConfig(**settings), **how)


def carry_out(task: dict[str, Any], run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Carry out one run and return the figures of every step."""
    watch = Watch()
    settings = QUIET | task["settings"] | run["settings"] | {"output_dir": str(folder), "max_steps": run["steps"]}
    settings["use_cpu"] = task["device"] == "cpu"
    trainer_of(task, settings, watch).train()
    return {
        "name": run["name"],
        "cpu_s": [cpu for cpu, _ in watch.ends],
        "wall_s": [wall for _, wall in watch.ends],
        "losses": [log["loss"] for log in watch.logs],
        "tokens": [log.get("num_tokens", 0.0) for log in watch.logs],
    }


def main(task_file: Path, results_file: Path) -> None:
    task = json.loads(task_file.read_text())
    with results_file.open("w") as results:
        for run in task["runs"]:
            try:
                result = carry_out(task, run, results_file.parent / "trainer")
            except torch.OutOfMemoryError as error:
                print(f"{run['name']} does not fit: {error}")
                continue
            finally:
                # What is left of a trainer lies in circles; the next one is to have the memory to itself.
                gc.collect()
                torch.cuda.empty_cache()
            results.write(json.dumps(result) + "\n")
            results.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
