"""How the weights move: Hugging Face `TrainingArguments` and TRL `SFTConfig` names."""

from typing import Literal, Self

from pydantic import AliasChoices, Field, model_validator

from engine.parts.part import Auto, Part


class Hyperparameters(Part):
    """How the weights move: Hugging Face `TrainingArguments` and TRL `SFTConfig` names."""

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
        description="Below 1: share of all steps. From 1 on: a number of steps.",
    )
    min_lr_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        validation_alias=AliasChoices("min_lr_rate", "min_lr_ratio"),
        description="Share of learning_rate at which linear, cosine and wsd end.",
    )
    num_decay_steps: float = Field(
        default=0.2,
        gt=0,
        le=100_000_000,
        description="In which wsd comes down. Below 1: share of all steps. From 1 on: a number of steps.",
    )
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1e6, description="Gradients are clipped to this norm; 0 turns it off."
    )
    max_length: int = Field(
        default=1024,
        ge=8,
        le=1_048_576,
        validation_alias=AliasChoices("max_length", "cutoff_len", "sequence_len", "max_seq_length"),
        description="Tokens in a row.",
    )
    long_rows: Literal["truncate", "drop"] = Field(
        default="truncate", description="What happens to rows over max_length."
    )
    packing: bool = Field(default=True, description="Several documents share a row; none attends to another.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Compute type; master weights are fp32. auto: bf16 where the hardware multiplies it, else fp32.",
    )
    activation_checkpointing: bool = Field(
        default=False, validation_alias=AliasChoices("activation_checkpointing", "gradient_checkpointing")
    )

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.num_train_epochs is not None and self.max_steps is not None:
            raise ValueError("num_train_epochs and max_steps exclude each other; leave one of them out")
        for name, low, high in _AUTO_RANGES:
            value = getattr(self, name)
            if value != "auto" and not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must lie between {low} and {high}, or be 'auto'")
        return self


_AUTO_RANGES = (
    ("per_device_train_batch_size", 1, 65_536),
    ("gradient_accumulation_steps", 1, 65_536),
    ("learning_rate", 0.0, 10.0),
)
