"""The parts that job specs are put together from, under the names Hugging Face, TRL and PEFT use."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

Auto = Literal["auto"]


class Part(BaseModel):
    """A piece of a spec: frozen, and strict about names (an unknown key is an error)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _said_once_and_meant(cls, given: Any) -> Any:
        """No value under two of its names; no `true` for a number (pydantic takes it for 1, YAML makes it of `yes`)."""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            alias = field.validation_alias
            known = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]
            named = [choice for choice in known if choice in given]
            if len(named) > 1:
                raise ValueError(f"{' and '.join(named)} are one value, given twice; leave one of them out")
            if named and isinstance(given[named[0]], bool) and field.annotation is not bool:
                raise ValueError(f"{named[0]} must not be true or false")
        return given


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a NUL character cannot be stored; remove it")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Names an artifact; it appears in URLs, never in paths."""
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$")]
"""`name`, `name/version`, or the id of a model, adapter or checkpoint."""
FileId = Annotated[str, StringConstraints(pattern=r"^file-[A-Za-z0-9]{1,64}$")]
ModulePattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")]


class FullTuning(Part):
    """Every weight of the model is trained."""

    method: Literal["full"] = "full"


class AdapterTuning(Part):
    """What every way of training low-rank adapters has; the base stays frozen."""

    r: int = Field(default=16, ge=1, le=1024, description="Rank of the update.")
    lora_alpha: float = Field(
        default=32, gt=0, le=65536, description="Scale; the update is multiplied by lora_alpha / r."
    )
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: Literal["all-linear"] | tuple[ModulePattern, ...] = Field(
        default="all-linear", description="Linear layers that get an adapter, by the end of their name."
    )


class LoraTuning(AdapterTuning):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    method: Literal["lora"] = "lora"


class QloraTuning(AdapterTuning):
    """Low-rank adapters over a base in 4 bits: NF4 with double quantization (Dettmers et al. 2023, arXiv:2305.14314)."""

    method: Literal["qlora"] = "qlora"


Tuning = Annotated[FullTuning | LoraTuning | QloraTuning, Field(discriminator="method")]


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


class Checkpoints(Part):
    """When the state of a run is saved, and which saved state counts as the best."""

    save_steps: float | Auto = Field(
        default="auto",
        description="Below 1: share of all steps. From 1 on: a number of steps. auto: a tenth of the run.",
    )
    eval_steps: float | Auto = Field(
        default="auto", description="Like save_steps. auto: whenever a checkpoint is saved."
    )
    save_total_limit: int = Field(default=3, ge=1, le=1000, description="Older checkpoints of the job are removed.")
    metric_for_best_model: Literal["eval_loss"] = "eval_loss"

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("save_steps", "eval_steps"):
            value = getattr(self, name)
            if value != "auto" and not 0 < value <= 100_000_000:
                raise ValueError(f"{name} is {value}; it must be above 0, or 'auto'")
        return self


class Resources(Part):
    """What the job may use."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_minutes: float | None = Field(
        default=None, gt=0, le=525_600, description="The run is stopped and kept after this."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")


Metadata = Annotated[
    dict[Annotated[Text, StringConstraints(max_length=64)], Annotated[Text, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class JobPart(Part):
    """What every kind has."""

    suffix: Name | None = Field(
        default=None, description="Names what the job makes: suffix/1, suffix/2, ... The job's id when left out."
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    resources: Resources = Resources()
    metadata: Metadata = {}
