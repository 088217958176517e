"""What a run of a known model on many GPUs would need, as the API asks and tells it."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.plans.schemas import Memory
from engine.estimate import PUBLISHED_MFU, Estimate, GpuName, ModelName, Question, estimate
from engine.parts import FullTuning, LoraTuning, QloraTuning

_TUNINGS = {"full": FullTuning, "lora": LoraTuning, "qlora": QloraTuning}
_MOST_TOKENS = 10**16
_LEAST_MFU = 0.001


class EstimateQuery(BaseModel):
    """A run that is thought of."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    tuning: Literal["full", "lora", "qlora"] = "full"
    r: int = Field(ge=1, le=1024, default=16, description="Rank of adapters.")
    gpu: GpuName = "h100"
    gpus: int = Field(default=8, ge=1, le=65_536)
    tokens: float = Field(
        gt=0, le=_MOST_TOKENS, allow_inf_nan=False, description="That the run trains on, such as 15.6e12."
    )
    max_length: int = Field(
        ge=8, le=1_048_576, default=8192, description="Tokens of a row; each GPU takes one row at a time."
    )
    mfu_low: float = Field(default=PUBLISHED_MFU[0], ge=_LEAST_MFU, le=1, description="Share of the GPUs' matmul rate.")
    mfu_high: float = Field(default=PUBLISHED_MFU[1], ge=_LEAST_MFU, le=1)
    price_per_gpu_hour: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.mfu_low > self.mfu_high:
            raise ValueError(f"mfu_low {self.mfu_low} is over mfu_high {self.mfu_high}")
        return self

    def question(self) -> Question:
        tuning = FullTuning() if self.tuning == "full" else _TUNINGS[self.tuning](r=self.r)
        shares = (self.mfu_low, self.mfu_high)
        return Question(self.model, tuning, self.gpu, self.gpus, self.tokens, self.max_length, shares)


class Span(BaseModel):
    """At the higher and at the lower share of the matmul rate."""

    low: float
    high: float


class RunEstimate(BaseModel):
    """What it needs. `memory` is of one GPU, at the least ZeRO stage that fits; `least_gpus`, doubled from one on, would hold it.

    `flops` counts the matmuls of forward and backward passes, attention's causal half among them; `six_nd` is six for
    each weight and token.
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


def told(query: EstimateQuery) -> RunEstimate:
    """The answer to a query."""
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
