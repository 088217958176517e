"""What of a model is trained: all weights, or low-rank adapters, under PEFT's names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.parts.part import ModulePattern, Part


class FullTuning(Part):
    """Every weight of the model is trained."""

    method: Literal["full"] = "full"


class AdapterTuning(Part):
    """What every way of training low-rank adapters has; the base stays frozen.

    A job that goes on from an adapter keeps the shape of that adapter, whatever the defaults are here; a value that
    says otherwise is refused. lora_dropout belongs to the job alone.
    """

    r: int = Field(default=16, ge=1, le=1024, description="Rank of the update.")
    lora_alpha: float = Field(
        default=32, gt=0, le=65536, description="Scale; the update is multiplied by lora_alpha / r."
    )
    lora_dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of an adapter's inputs that is left out at each step."
    )
    target_modules: Literal["all-linear"] | tuple[ModulePattern, ...] = Field(
        default="all-linear",
        max_length=1000,
        description="Linear layers that get an adapter, by the end of their name. all-linear: all but the head.",
    )
    use_rslora: bool = Field(
        default=False,
        description="Multiply the update by lora_alpha / sqrt(r) instead: high ranks then learn as fast as low ones "
        "(rsLoRA, arXiv:2312.03732).",
    )
    use_dora: bool = Field(
        default=False,
        description="Learn the length of each layer's weight vectors apart from their direction: nearer to full "
        "tuning at low ranks, and slower (DoRA, arXiv:2402.09353).",
    )
    modules_to_save: tuple[ModulePattern, ...] = Field(
        default=(),
        max_length=1000,
        description="Modules that are trained whole and saved with the adapter, by the end of their name: "
        "embed_tokens and lm_head for a new language. Weights that the model ties stay tied.",
    )

    merge: Literal["none", "auto", "original", "dequantized"] = Field(
        default="none",
        description="Beside the adapter, keep it merged into its base as a model, <suffix>-merged. auto: into the "
        "original weights or, for qlora, into those read back from 4 bits, whichever scores better, and only if it "
        "scores as the adapter does. original, dequantized: into these, whatever that scores.",
    )

    @model_validator(mode="after")
    def _one_way_for_each_module(self) -> Self:
        both = sorted(set(self.modules_to_save) & set(self.target_modules))
        if both:
            raise ValueError(f"{', '.join(both)} stands in target_modules and in modules_to_save; leave one of them")
        return self


class LoraTuning(AdapterTuning):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    method: Literal["lora"] = "lora"

    @model_validator(mode="after")
    def _base_in_full(self) -> Self:
        if self.merge == "dequantized":
            raise ValueError("merge is 'dequantized', and the base of method 'lora' is not in 4 bits; use 'auto'")
        return self


class QloraTuning(AdapterTuning):
    """Low-rank adapters over a base in 4 bits: NF4 with double quantization (Dettmers et al. 2023, arXiv:2305.14314)."""

    method: Literal["qlora"] = "qlora"


Tuning = Annotated[FullTuning | LoraTuning | QloraTuning, Field(discriminator="method")]
