"""The tuning method: all weights, or low-rank adapters with PEFT's names."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.parts.part import ModulePattern, Part


class FullTuning(Part):
    """Every weight of the model is trained."""

    method: Literal["full"] = "full"


class AdapterTuning(Part):
    """The fields of all methods that train low-rank adapters; the base stays frozen.

    A job that starts from an adapter keeps the shape of that adapter, whatever the defaults are here; a different value
    is refused. lora_dropout is free to differ.
    """

    r: int = Field(default=16, ge=1, le=1024, description="Rank of the update.")
    lora_alpha: float = Field(
        default=32, gt=0, le=65536, description="Scale; the update is multiplied by lora_alpha / r."
    )
    lora_dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Fraction of an adapter's inputs that is dropped at each step."
    )
    target_modules: Literal["all-linear"] | tuple[ModulePattern, ...] = Field(
        default="all-linear",
        max_length=1000,
        description="Linear layers that get an adapter, by the ends of their names. all-linear: all but the head.",
    )
    use_rslora: bool = Field(
        default=False,
        description="Multiply the update by lora_alpha / sqrt(r) instead: high ranks then learn as fast as low ones "
        "(rsLoRA, arXiv:2312.03732).",
    )
    use_dora: bool = Field(
        default=False,
        description="Learn the magnitude of each layer's weight vectors apart from their direction: closer to full "
        "tuning at low ranks, and slower (DoRA, arXiv:2402.09353).",
    )
    modules_to_save: tuple[ModulePattern, ...] = Field(
        default=(),
        max_length=1000,
        description="Modules that are trained in full and saved with the adapter, by the ends of their names, like "
        "embed_tokens and lm_head for a new language. Tied weights stay tied.",
    )

    merge: Literal["none", "auto", "original", "dequantized"] = Field(
        default="none",
        description="Besides the adapter, keep a model of it merged into its base, <suffix>-merged. auto: into the "
        "original weights or, for qlora, those dequantized from 4 bits, whichever scores better, and only if it "
        "scores like the adapter. original, dequantized: into these weights, whatever the score.",
    )

    @model_validator(mode="after")
    def _one_way_for_each_module(self) -> Self:
        both = sorted(set(self.modules_to_save) & set(self.target_modules))
        if both:
            raise ValueError(
                f"{', '.join(both)} is in both target_modules and modules_to_save; remove it from one of them"
            )
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
