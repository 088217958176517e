"""What of a model is trained: all weights, or low-rank adapters, under PEFT's names."""

from typing import Annotated, Literal

from pydantic import Field

from engine.parts.part import ModulePattern, Part


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
