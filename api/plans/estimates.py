"""Estimates of what a training run of a published model needs on many GPUs."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.plans.schemas import Memory
from engine.estimate import PUBLISHED_MFU, Estimate, GpuName, ModelName, Question, estimate
from engine.parts import FullTuning, LoraTuning, QloraTuning

_TUNINGS = {"full": FullTuning, "lora": LoraTuning, "qlora": QloraTuning}
_MOST_TOKENS = 10**16
_LEAST_MFU = 0.001


class EstimateQuery(BaseModel):
    """A training run to estimate."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(description="The name of a published model.")
    tuning: Literal["full", "lora", "qlora"] = Field(default="full", description="The tuning method.")
    r: int = Field(ge=1, le=1024, default=16, description="The rank of the adapters; ignored for full tuning.")
    gpu: GpuName = Field(default="h100", description="The type of GPU.")
    gpus: int = Field(default=8, ge=1, le=65_536, description="The number of GPUs.")
    tokens: float = Field(
        gt=0,
        le=_MOST_TOKENS,
        allow_inf_nan=False,
        description="The number of tokens that the run trains on, such as 15.6e12.",
    )
    max_length: int = Field(
        ge=8,
        le=1_048_576,
        default=8192,
        description="The number of tokens in a row; each GPU processes one row at a time.",
    )
    mfu_low: float = Field(
        default=PUBLISHED_MFU[0],
        ge=_LEAST_MFU,
        le=1,
        description="The lowest expected share of the GPUs' peak matmul rate (MFU).",
    )
    mfu_high: float = Field(
        default=PUBLISHED_MFU[1],
        ge=_LEAST_MFU,
        le=1,
        description="The highest expected share of the GPUs' peak matmul rate (MFU).",
    )
    price_per_gpu_hour: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="The price of an hour of one GPU, in any currency; costs are left out without it.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.mfu_low > self.mfu_high:
            raise ValueError(f"mfu_low {self.mfu_low} is above mfu_high {self.mfu_high}")
        return self

    def question(self) -> Question:
        tuning = FullTuning() if self.tuning == "full" else _TUNINGS[self.tuning](r=self.r)
        shares = (self.mfu_low, self.mfu_high)
        return Question(self.model, tuning, self.gpu, self.gpus, self.tokens, self.max_length, shares)


class Span(BaseModel):
    """A range: low at the highest expected MFU, high at the lowest."""

    low: float
    high: float


class RunEstimate(BaseModel):
    """What a run needs. `memory` is that of one GPU at the lowest ZeRO stage that fits.

    `least_gpus` is the smallest power of two GPUs that would hold the run.

    `flops` counts the matmuls of forward and backward passes, including the causal half of attention; `six_nd` is six
    for each weight and token.
    """

    object: Literal["plan.estimate"] = "plan.estimate"
    model: str
    tuning: str
    gpu: str
    gpus: int
    tokens: float
    parameters: int
    trainable_parameters: int
    flops: float
    six_nd: float
    gpu_hours: Span
    days: Span
    cost: Span | None
    memory: Memory
    zero_stage: int
    room_bytes: int
    fits: bool
    least_gpus: int | None


def run_estimate(query: EstimateQuery) -> RunEstimate:
    """Return the estimate of a run."""
    answer: Estimate = estimate(query.question())
    price = query.price_per_gpu_hour
    return RunEstimate(
        model=query.model,
        tuning=query.tuning,
        gpu=query.gpu,
        gpus=query.gpus,
        tokens=query.tokens,
        parameters=answer.parameters,
        trainable_parameters=answer.trainable_parameters,
        flops=answer.flops,
        six_nd=answer.six_nd,
        gpu_hours=Span(**answer.gpu_hours._asdict()),
        days=Span(**answer.days._asdict()),
        cost=None if price is None else Span(**answer.gpu_hours.times(price)._asdict()),
        memory=Memory(**answer.memory.components()),
        zero_stage=answer.zero_stage,
        room_bytes=answer.room_bytes,
        fits=answer.fits,
        least_gpus=answer.least_gpus,
    )
