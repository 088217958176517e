"""Plans as the API shows them, and their accuracy."""

from typing import Any, Literal

from pydantic import BaseModel

from api.answers import Object
from api.preview.schemas import FileStatistics


class Memory(BaseModel):
    """Bytes on the device of a rank at its peak; `workspace` is temporary copies of weights and gradients.

    An evaluation has neither gradients nor optimizer, and its KV cache counts as `activations`. An evaluation of two
    models holds one at a time, and these are the numbers of the larger one.
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
    """A change to the spec: the path of a field, and its new value."""

    path: str
    value: Any


class Mend(BaseModel):
    """At most three edits that make the job fit, and the memory that it then needs."""

    edits: list[Edit]
    total_bytes: int


class Flops(BaseModel):
    """Operations of matmuls: `training` those of the job's steps, `six_nd` six for each weight and token, `all` everything.

    The steps of an evaluation are forward passes, for which `six_nd` counts two for each weight and token.
    """

    training: float
    six_nd: float
    all: float


class Eta(BaseModel):
    """The expected duration: 8 of 10 such jobs end between low_s and high_s. `runs` is the number of past jobs behind it."""

    expected_s: float
    low_s: float
    high_s: float
    runs: int


class Cost(BaseModel):
    """The expected cost, at the operator's price per hour."""

    expected: float
    low: float
    high: float
    currency: str


class Figures(BaseModel):
    """Figures of a job, either forecast or measured."""

    steps: int
    tokens: int
    trained_tokens: int
    flops: float | None
    peak_memory_bytes: int | None
    seconds: float | None


class JobPlan(BaseModel):
    """The plan that a job follows; `actual` is set once the job has succeeded without interruption.

    A plan is not `exact` where tokens are estimated, or `max_minutes` or early stopping may end the job before its last
    step.
    """

    id: str
    exact: bool
    predicted: Figures
    actual: Figures | None


class PlanObject(Object):
    """The forecast of a job, with a spec in which every `auto` is resolved.

    Submitted as {"plan_id": ...}, it is binding: the same rows, tokens and steps. `exact` says that all steps were counted
    and that the job is not likely to end early, neither by `max_minutes` nor by `early_stopping_patience` with held-out
    rows; in long runs only the first steps are counted and the rest is extrapolated. A step of an evaluation is a batch
    that goes through a model, and `trained_tokens` are the tokens that it scores or writes. Answers to be written are
    assumed to have their maximum length, so that their tokens are an upper bound. Memory, operations and time are null for
    models that cannot be planned; `unplanned` says why.
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
    """The ZeRO stage: how much of their state the ranks partition; 0 means nothing."""
    on_disk_bytes: int | None = None
    """The bytes of optimizer state and offloaded layers that a rank keeps in the run directory during training."""
    room_bytes: int | None
    """The free memory of a rank's device."""
    fits: bool | None
    short_of: list[Literal["device", "memory", "disk"]] | None = None
    """What lacks room where the job does not fit: a rank's device, or the memory or disk that it offloads to."""
    mend: Mend | None
    flops: Flops | None
    matmul_tflops: float
    eta: Eta | None
    cost: Cost | None
    co2e_g: float | None
    unplanned: str | None


class HitRate(BaseModel):
    """The share of `jobs` whose plans held, and the `median` and the `worst` relative error."""

    jobs: int
    share: float | None
    median: float | None
    worst: float | None


class Accuracy(BaseModel):
    """The accuracy of plans, over the newest 1,000 jobs that followed one and succeeded without interruption.

    Where early stopping may end a job, only its memory counts.
    """

    object: Literal["plan.accuracy"] = "plan.accuracy"
    steps: HitRate
    """Held if equal."""
    tokens: HitRate
    """Held if equal; only exact plans count."""
    memory: HitRate
    """Held if within 10%."""
    time: HitRate
    """Held if within 20%."""
