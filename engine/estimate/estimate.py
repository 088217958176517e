"""Estimates of a run on many GPUs from sizes only, before there is a machine, a file or a job.

Each GPU takes one row of `max_length` tokens at a time and recomputes its layers in the backward pass; ZeRO divides
everything but activations among them. This is the plan of engine.plan, as for a real job.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.estimate.known import GPUS, MODELS, GpuName, ModelName
from engine.parts import Hyperparameters, Tuning
from engine.plan import Counts, MemoryPlan, Setting, Work, Workload
from engine.plan.ranks import least_stage, plan_of_rank
from engine.plan.weights import trained_weights
from engine.plan.work import parameters_of, six_nd

PUBLISHED_MFU = (0.35, 0.43)
"""Shares of the data sheet's rate in the pre-training of Llama 3.1 405B and Llama 2 70B: what good clusters reach."""
_ROOM = 0.92
"""The usable share of a GPU's memory: the driver takes some, and some is lost to fragmentation."""
_MOST_GPUS = 1 << 16
_HOUR_S = 3600.0


class Range(NamedTuple):
    """A figure at the highest and at the lowest share of the matmul rate."""

    low: float
    high: float

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Question:
    """The run to estimate: it trains on `tokens` tokens, and `mfu` is the lowest and highest share of the GPUs' rate."""

    model: ModelName
    tuning: Tuning
    gpu: GpuName
    gpus: int
    tokens: float
    max_length: int
    mfu: tuple[float, float] = PUBLISHED_MFU

    @property
    def setting(self) -> Setting:
        hyper = Hyperparameters(max_length=self.max_length, activation_checkpointing="full")
        return Setting("cuda", "bf16", self.tuning, hyper)


@dataclass(frozen=True)
class Estimate:
    """The estimate; `memory` is that of one GPU at the ZeRO stage, `least_gpus` None if no number of GPUs is enough."""

    parameters: int
    trainable_parameters: int
    flops: float
    six_nd: float
    gpu_hours: Range
    days: Range
    memory: MemoryPlan
    zero_stage: int
    room_bytes: int
    fits: bool
    least_gpus: int | None


def estimate(question: Question) -> Estimate:
    """Estimate a run.

    Raises:
        SpecError: no memory plan is made for this tuning.
    """
    shape, setting, device = MODELS[question.model], question.setting, GPUS[question.gpu]
    room = int(_ROOM * device.memory_bytes)
    stage, plan = _divided(question, question.gpus, room)
    tokens = round(question.tokens)
    counts = Counts(tokens=tokens, labels=tokens, attended=question.tokens * question.max_length)
    flops = Work.of(shape, setting).training(counts)
    lowest, highest = question.mfu
    hours = flops / (device.tflops * 1e12) / _HOUR_S
    gpu_hours = Range(hours / highest, hours / lowest)
    return Estimate(
        parameters=parameters_of(shape),
        trainable_parameters=trained_weights(shape, setting),
        flops=flops,
        six_nd=six_nd(parameters_of(shape), tokens),
        gpu_hours=gpu_hours,
        days=gpu_hours.times(1 / question.gpus / 24),
        memory=plan,
        zero_stage=stage,
        room_bytes=room,
        fits=plan.total <= room,
        least_gpus=next(_enough(question, room), None),
    )


def _divided(question: Question, gpus: int, room: int) -> tuple[int, MemoryPlan]:
    """Return the ZeRO stage, and the plan of a GPU at it."""
    setting = question.setting
    row = Workload(tokens=question.max_length, labels=question.max_length, document=question.max_length)

    def plan(stage: int) -> MemoryPlan:
        return plan_of_rank(MODELS[question.model], row, setting, stage=stage, ranks=gpus)

    stage = least_stage(lambda stage: plan(stage).total, setting, ranks=gpus, room_bytes=room)
    return stage, plan(stage)


def _enough(question: Question, room: int) -> Iterator[int]:
    """Yield the numbers of GPUs that hold the run, in powers of two."""
    gpus = 1
    while gpus <= _MOST_GPUS:
        if _divided(question, gpus, room)[1].total <= room:
            yield gpus
        gpus *= 2
