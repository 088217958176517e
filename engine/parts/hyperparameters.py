"""Hyperparameters, with the names of Hugging Face `TrainingArguments` and TRL `SFTConfig`."""

from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from engine.parts.part import Auto, Part, check_steps


class Hyperparameters(Part):
    """Hyperparameters of training, with the names of Hugging Face `TrainingArguments` and TRL `SFTConfig`."""

    num_train_epochs: float | None = Field(
        default=None, gt=0, le=10_000, validation_alias=AliasChoices("num_train_epochs", "n_epochs")
    )
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    per_device_train_batch_size: int | Auto = Field(
        default="auto",
        validation_alias=AliasChoices("per_device_train_batch_size", "batch_size", "micro_batch_size"),
        description="Rows of max_length tokens in one forward pass; with packing, packed rows.",
    )
    gradient_accumulation_steps: int | Auto = "auto"
    learning_rate: float | Auto = "auto"
    lr_scheduler_type: Literal["linear", "cosine", "constant", "wsd"] = "cosine"
    warmup_steps: float = Field(
        default=0.03,
        ge=0,
        le=100_000_000,
        validation_alias=AliasChoices("warmup_steps", "warmup_ratio"),
        description="Below 1: fraction of all steps, rounded up. From 1: number of steps; in a run of epochs that has "
        "no more, all but the last. The rate rises linearly from 1 / (warmup_steps + 1) of learning_rate in the first "
        "of them.",
    )
    min_lr_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        validation_alias=AliasChoices("min_lr_rate", "min_lr_ratio"),
        description="Fraction of learning_rate at which linear, cosine and wsd end.",
    )
    num_decay_steps: float = Field(
        default=0.2,
        gt=0,
        le=100_000_000,
        description="Steps of the linear decay of wsd. Below 1: fraction of all steps. From 1: number of steps.",
    )
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1e6, description="Gradients are clipped to this norm; 0 turns it off."
    )
    on_loss_spike: Literal["warn", "skip", "stop"] = Field(
        default="warn",
        description="What to do at a step whose loss or gradient is an outlier; skip: its update is left out.",
    )
    max_length: int = Field(
        default=1024,
        ge=8,
        le=1_048_576,
        validation_alias=AliasChoices("max_length", "cutoff_len", "sequence_len", "max_seq_length"),
        description="Tokens in a row.",
    )
    long_rows: Literal["truncate", "drop"] = Field(
        default="truncate",
        description="What to do with conversations and pairs over max_length; a text continues in further rows.",
    )
    packing: bool = Field(default=True, description="Several documents share a row; none attends to another.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="Compute type; master weights are fp32. auto: bf16 if the hardware supports it, else fp16 on "
        "GPUs and fp32 on CPUs. fp16 uses loss scaling.",
    )
    activation_checkpointing: bool | Literal["none", "selective", "full"] = Field(
        default="none",
        validation_alias=AliasChoices("activation_checkpointing", "gradient_checkpointing"),
        description="Trades time for memory. full (or true): each layer keeps its input and is recomputed in the "
        "backward pass; selective: it also keeps the outputs of its linear layers.",
    )
    optim: Literal["adamw", "adamw_8bit", "adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit"] = Field(
        default="adamw",
        description="adamw_8bit keeps the optimizer's state in 8 bits; the others are aliases of these two.",
    )
    offload_optimizer: bool | Literal["none", "cpu", "disk", "nvme"] = Field(
        default="none",
        description="Where the optimizer's state is kept. none: with the weights; cpu (or true): for a GPU, in the "
        "machine's memory, and updated there; disk (or nvme): in files of the run directory, a part in memory at a "
        "time. That takes the least memory and the most time, and the weights are bit for bit those of a CPU.",
    )
    offload_param: bool | Literal["none", "cpu", "disk", "nvme"] = Field(
        default="none",
        description="Where the weights of the decoder's layers are kept while they are not used. none: where they are "
        "used; cpu (or true): for a GPU, in the machine's memory; disk (or nvme): in files of the run directory. A "
        "layer or two are loaded at a time, and the weights are the same bit for bit. On a GPU, this is for the base of "
        "a LoRA; on a CPU, trained weights are kept in files only together with offload_optimizer 'disk'.",
    )

    @model_validator(mode="before")
    @classmethod
    def _ratio(cls, given: Any) -> Any:
        ratio = given.get("warmup_ratio") if isinstance(given, dict) else None
        if isinstance(ratio, int | float) and not isinstance(ratio, bool) and ratio >= 1:
            raise ValueError(
                f"warmup_ratio is {ratio:g}; a fraction of the steps is below 1; use warmup_steps for a number"
            )
        return given

    @field_validator("activation_checkpointing")
    @classmethod
    def _checkpointing(cls, given: bool | str) -> str:
        return given if isinstance(given, str) else "full" if given else "none"

    @field_validator("offload_optimizer", "offload_param")
    @classmethod
    def _offload(cls, given: bool | str) -> str:
        return _OFFLOAD_NAMES.get(given, str(given))

    @field_validator("optim")
    @classmethod
    def _optim(cls, given: str) -> str:
        return _OPTIM_NAMES.get(given, given)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.num_train_epochs is not None and self.max_steps is not None:
            raise ValueError("num_train_epochs and max_steps exclude each other; leave one of them out")
        if self.offload_optimizer == "disk" and self.optim == "adamw_8bit":
            raise ValueError(
                "offload_optimizer is 'disk' and optim 'adamw_8bit', whose state cannot be kept on disk; "
                "set optim to 'adamw', or offload_optimizer to 'none'"
            )
        for name, low, high in _AUTO_RANGES:
            value = getattr(self, name)
            if value != "auto" and not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must lie between {low} and {high}, or be 'auto'")
        return self

    @model_validator(mode="after")
    def _numbers_of_steps(self) -> Self:
        for name in ("warmup_steps", "num_decay_steps"):
            check_steps(name, getattr(self, name))
        if self.max_steps is not None and self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps:g} and max_steps {self.max_steps}; "
                "the rate must reach its peak before the end: lower warmup_steps"
            )
        return self

    @model_validator(mode="after")
    def _of_the_schedule(self) -> Self:
        for name, schedules in _OF_SCHEDULES.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.lr_scheduler_type not in schedules:
                raise ValueError(
                    f"{name} is {value:g}; lr_scheduler_type {self.lr_scheduler_type!r} does not use it: leave it out, "
                    f"or take {' or '.join(map(repr, schedules))}"
                )
        return self


_OF_SCHEDULES = {"min_lr_rate": ("linear", "cosine", "wsd"), "num_decay_steps": ("wsd",)}
"""The schedules that use a field; with the others it has no effect."""

_OPTIM_NAMES = {"adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_bnb_8bit": "adamw_8bit"}

_OFFLOAD_NAMES: dict[bool | str, str] = {False: "none", True: "cpu", "nvme": "disk"}
"""Other names of the values: a boolean for the CPU, and DeepSpeed's name for the disk."""

_AUTO_RANGES = (
    ("per_device_train_batch_size", 1, 65_536),
    ("gradient_accumulation_steps", 1, 65_536),
    ("learning_rate", 0.0, 10.0),
)
