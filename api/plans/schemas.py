"""Plans as the API shows them, and how they came out."""

from typing import Any, Literal

from pydantic import BaseModel

from api.answers import Object
from api.preview.schemas import FileStatistics


class Memory(BaseModel):
    """Bytes on the device of a rank when most is held; `workspace` are copies of weights and gradients in the making.

    An evaluation has neither gradients nor optimizer; keys and values that are kept while answers are written are
    `activations`. Of two models that are compared one is there at a time: told is the one that needs more.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    workspace: int
    runtime: int
    total: int


class Edit(BaseModel):
    """A change of the spec: the path of a field, and its new value."""

    path: str
    value: Any


class Mend(BaseModel):
    """Three edits at most, with which the job fits, and the memory that it then needs."""

    edits: list[Edit]
    total_bytes: int


class Flops(BaseModel):
    """Operations of all matmuls: of the job's steps, by the estimate of six for a weight and token, and of all that is run.

    The steps of an evaluation are forward passes, `training` counts those, and the estimate is two for a weight and token.
    """

    training: float
    six_nd: float
    all: float


class Eta(BaseModel):
    """Seconds of work: 8 of 10 such jobs are expected between low_s and high_s. `runs` that have ended tell so; 0: none has."""

    expected_s: float
    low_s: float
    high_s: float
    runs: int


class Cost(BaseModel):
    """By the operator's price of an hour."""

    expected: float
    low: float
    high: float
    currency: str


class Figures(BaseModel):
    """What is foretold of a job and measured of it, side by side."""

    steps: int
    tokens: int
    trained_tokens: int
    flops: float | None
    peak_memory_bytes: int | None
    seconds: float | None


class JobPlan(BaseModel):
    """The plan that a job follows; `actual` once it has succeeded in one go.

    Not `exact`: tokens are foretold roughly, or the job may come to its `max_minutes` before its last step.
    """

    id: str
    exact: bool
    predicted: Figures
    actual: Figures | None


class PlanObject(Object):
    """What a job of this spec will come to; nothing in the spec is left to the machine any more.

    Submitted as {"plan_id": ...} it is binding: the same rows, tokens and steps. `exact` tells that all steps were
    counted, and that no `max_minutes` is likely to end the job before its last; of a long run the first are counted, and
    the rest is taken to be like them. A step of an evaluation is a batch that goes through a model, `trained_tokens` are
    those that it scores or writes. Answers that are to be written are taken to be as long as they may be, so that their
    tokens are the most there can be, and not exact. Memory, operations and time are null for models that nothing is
    planned for; `unplanned` says why.
    """

    object: Literal["plan"] = "plan"
    created_at: float
    kind: str
    spec: dict[str, Any]
    steps: int
    tokens: int
    trained_tokens: int
    exact: bool
    packing_efficiency: float
    files: list[FileStatistics]
    validation_rows: int
    parameters: int | None
    trainable_parameters: int | None
    ranks: int
    memory: Memory | None
    zero_stage: int | None = None
    """How far the ranks divide what they hold; 0: each holds all."""
    on_disk_bytes: int | None = None
    """Of a rank: what of its optimizer's state lies in the run directory while it trains."""
    room_bytes: int | None
    """Of a rank."""
    fits: bool | None
    mend: Mend | None
    flops: Flops | None
    matmul_tflops: float
    eta: Eta | None
    cost: Cost | None
    co2e_g: float | None
    unplanned: str | None


class HitRate(BaseModel):
    """Of so many jobs, the share whose plan held; `worst` is the largest relative error, `median` that of half of them."""

    jobs: int
    share: float | None
    median: float | None
    worst: float | None


class Accuracy(BaseModel):
    """How plans came out: the newest 1,000 jobs that followed one and succeeded in one go."""

    object: Literal["plan.accuracy"] = "plan.accuracy"
    steps: HitRate
    """Equal."""
    tokens: HitRate
    """Equal, of plans that were told as exact."""
    memory: HitRate
    """Within a tenth."""
    time: HitRate
    """Within a fifth."""
