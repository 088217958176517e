"""TRL's side: its real trainers over the same weights, rows and order.

Where TRL means something else by default, it is set to what both can mean:

- order: TRL shuffles; here it reads the rows in the order in which the engine took them.
- schedule: the cosine of transformers starts its warm-up with a step at rate 0, ours does not; neither warms up here.
- weight decay: both leave norms and biases out; AdamW is torch's fused one on both sides.
- labels: SFT trains every assistant turn by the template's own generation mask (`assistant_only_loss`).
- EOS: in DPO TRL scores all that the template writes after the prompt, the newline after the end token too; the
  engine stops at the end token. TRL is given the rendered prompt as text and closes the answers with EOS itself.
- normalisation: SFT divides by the labels of the whole step on both sides; DPO's mean over a micro-batch is the mean
  over the step because every micro-batch has as many pairs.
- dropout: none. Activation checkpointing: off, it changes no figure.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer, pack_dataset

from tests.parity.bases import with_adapter
from tests.parity.ours import HYPERPARAMETERS, LEARNING_RATE, MAX_LENGTH, STEPS
from tests.parity.trajectory import Trajectory

disable_progress_bars()

NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Order = list[list[list[int]]]


class Recorder(TrainerCallback):
    """Keeps what the trainer logs of each step, unrounded."""

    def __init__(self) -> None:
        self.trajectory = Trajectory([], [])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs is not None and "grad_norm" in logs:
            self.trajectory.losses.append(logs["loss"])
            self.trajectory.grad_norms.append(logs["grad_norm"])


def arguments(kind: str, folder: Path, batch: tuple[int, int], precision: str) -> dict[str, Any]:
    """What both trainers are told: the rows of a batch and the batches of a step, the optimizer, the schedule."""
    return {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": batch[0],
        "gradient_accumulation_steps": batch[1],
        "train_sampling_strategy": "sequential",
        "learning_rate": LEARNING_RATE[kind],
        "lr_scheduler_type": HYPERPARAMETERS["lr_scheduler_type"],
        "warmup_steps": 0,
        "weight_decay": HYPERPARAMETERS["weight_decay"],
        "adam_beta2": HYPERPARAMETERS["adam_beta2"],
        "max_grad_norm": HYPERPARAMETERS["max_grad_norm"],
        "optim": "adamw_torch_fused",
        "bf16": precision == "bf16",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def _even(sizes: list[int]) -> int:
    """What all are: TRL takes as many rows in every batch and step."""
    assert len(set(sizes)) == 1, f"batches or steps differ in size: {sizes}"
    return sizes[0]


def _batch_of(order: Order) -> tuple[int, int]:
    return _even([len(batch) for step in order for batch in step]), _even([len(step) for step in order])


def model_of(base: Path, adapter: Path | None, precision: str, *, in_4bit: bool = False) -> Any:
    """Full tuning has fp32 weights under autocast; a frozen base lies in the compute type, its adapter in fp32."""
    dtype = torch.float32 if adapter is None else _DTYPES[precision]
    how: dict[str, Any] = {"quantization_config": NF4, "device_map": {"": "cpu"}} if in_4bit else {}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation="sdpa", **how)
    return model if adapter is None else with_adapter(model, adapter)


def sft(
    folder: Path,
    rows: list[dict[str, Any]],
    order: Order,
    base: Path,
    *,
    adapter: Path | None = None,
    precision: str = "fp32",
    packing: bool = False,
    in_4bit: bool = False,
) -> Trajectory:
    if packing:
        # One row of TRL is a micro-batch of the engine; TRL takes those of a step at once.
        dataset, batch = _packed(folder, rows, order, base), (_even([len(step) for step in order]), 1)
        shape = {"padding_free": True, "max_length": None}
    else:
        dataset, batch = Dataset.from_list(_in_order(rows, order)), _batch_of(order)
        shape = {"assistant_only_loss": True, "max_length": MAX_LENGTH}
    recorder = Recorder()
    model = model_of(base, adapter, precision, in_4bit=in_4bit)
    learns = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments("sft", folder, batch, precision), **shape),
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(base),
        callbacks=[recorder],
    )
    # TRL rounds an adapter over 4 bits to bf16, where small updates get lost; the engine's master weights are fp32.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = learns[name]
    trainer.train()
    return recorder.trajectory


def _in_order(rows: list[dict[str, Any]], order: Order) -> list[dict[str, Any]]:
    return [rows[row] for step in order for batch in step for row in batch]


def _packed(folder: Path, rows: list[dict[str, Any]], order: Order, base: Path) -> Dataset:
    """Each micro-batch of the engine, tokenized and packed by TRL, as one row of TRL: by itself TRL would choose others."""
    config = SFTConfig(str(folder), assistant_only_loss=True, use_cpu=True, bf16=False, report_to="none")
    trainer = SFTTrainer(
        model=str(base),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    tokenized = trainer.train_dataset.select_columns(["input_ids", "labels"])
    packed = [
        pack_dataset(tokenized.select(documents), sum(map(len, tokenized.select(documents)["input_ids"])), "bfd")
        for step in order
        for documents in step
    ]
    assert all(len(row) == 1 for row in packed)
    return concatenate_datasets(packed)


def dpo(
    folder: Path,
    rows: list[dict[str, Any]],
    order: Order,
    base: Path,
    loss: dict[str, Any],
    *,
    adapter: Path | None = None,
    precision: str = "fp32",
) -> Trajectory:
    tokenizer = AutoTokenizer.from_pretrained(base)
    taken = _in_order(rows, order)
    prompts = [[{"role": "user", "content": row["prompt"]}] for row in taken]
    rendered = [
        row | {"prompt": tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)}
        for row, prompt in zip(taken, prompts, strict=True)
    ]
    recorder = Recorder()
    trainer = DPOTrainer(
        model=model_of(base, adapter, precision),
        args=DPOConfig(**arguments("dpo", folder, _batch_of(order), precision), max_length=MAX_LENGTH, **loss),
        train_dataset=Dataset.from_list(rendered),
        processing_class=tokenizer,
        callbacks=[recorder],
    )
    trainer.train()
    return recorder.trajectory
