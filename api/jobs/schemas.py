"""Jobs as the API shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Object
from api.plans.schemas import JobPlan
from db.models import Event, Metric

Status = Literal["queued", "preparing", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
Figures = dict[str, float | None]


class ArtifactSummary(Object):
    """An artifact in few words."""

    kind: Literal["model", "adapter", "checkpoint"]
    name: str | None
    version: int | None
    digest: str


class JobError(BaseModel):
    """Why a job failed; `mend` says what to do about it."""

    model_config = ConfigDict(populate_by_name=True)

    failure: str = Field(alias="class")
    code: str | None
    message: str | None
    mend: str | None


class JobResult(BaseModel):
    """What came out of a job, in figures; `groups` has those of each subject of a multiple-choice file."""

    metrics: Figures
    groups: dict[str, Figures]


class JobObject(Object):
    """A job. `attempt` counts its starts, `base` is what it trains on or evaluates, `artifacts` what it made.

    `result_files` are ids of files: of an evaluation with a line for every row, of a fine-tuning the adapter as a tar.
    `estimated_start_at` follows from what the running jobs say of their ends; null where they say nothing yet.
    `last_seq` is the newest number of an event or metric: a stream after it tells what comes.
    """

    object: Literal["job"] = "job"
    kind: str
    status: Status
    created_at: float
    started_at: float | None
    finished_at: float | None
    spec: dict[str, Any]
    base: ArtifactSummary | None
    attempt: int
    step: int | None
    total_steps: int | None
    progress: Figures
    eta_s: float | None
    queue_position: int | None
    waiting_reason: str | None
    estimated_start_at: float | None
    cancel_requested: bool
    error: JobError | None
    result: JobResult | None
    result_files: list[str]
    plan: JobPlan | None
    artifacts: list[ArtifactSummary]
    last_seq: int


class EventObject(BaseModel):
    """Something that happened; `seq` numbers events and metrics of a job together."""

    object: Literal["event"] = "event"
    seq: int
    type: str
    time: float
    attempt: int | None
    level: str
    message: str
    data: dict[str, Any] | None


class MetricObject(BaseModel):
    """The figures of one step."""

    object: Literal["metrics"] = "metrics"
    seq: int
    type: Literal["metrics"] = "metrics"
    time: float
    attempt: int | None
    split: str
    step: int
    values: Figures


class JobConfig(Object):
    """What a job runs with. `origins` tells of every value, by its path, who chose it.

    It tells of none where this release would not take the spec any more.
    """

    object: Literal["config"] = "config"
    spec: dict[str, Any]
    origins: dict[str, Literal["default", "auto", "set"]]


class CurveObject(BaseModel):
    """One figure over the steps of a job, in columns of one length: null is a figure that was not finite.

    Of `total` points these are the first, the last, and of each stretch the lowest and the highest.
    """

    object: Literal["curve"] = "curve"
    metric: str
    split: str
    total: int
    last_seq: int
    step: list[int]
    time: list[float]
    tokens: list[float | None]
    value: list[float | None]
    smoothed: list[float | None] | None


class RowLossObject(BaseModel):
    """What one row of a training file lost: the mean over its labels; null where it is not finite."""

    file: str
    line: int
    loss: float | None
    labels: int


class StepRows(BaseModel):
    """The rows that a step was trained on, those that lost most first."""

    object: Literal["step.rows"] = "step.rows"
    step: int
    data: list[RowLossObject]


class ScoredRow(BaseModel):
    """A row of an evaluation: `row` as it was uploaded, null once its file is deleted, and what each model made of it.

    `number` counts the rows that were scored. What the scores hold is the task's: a loss; of multiple choice what was
    `chosen` and whether it is `correct`, in each of the ways; of generation the `text`, its `answer` and the `reference`.
    """

    object: Literal["scored_row"] = "scored_row"
    number: int
    line: int
    row: dict[str, Any] | None
    scores: dict[str, Any]
    compare_to: dict[str, Any] | None


def event_object(event: Event) -> EventObject:
    return EventObject(
        seq=event.seq,
        type=event.type,
        time=event.created_at,
        attempt=event.attempt,
        level=event.level,
        message=event.message,
        data=event.data,
    )


def metric_object(metric: Metric) -> MetricObject:
    return MetricObject(
        seq=metric.seq,
        time=metric.created_at,
        attempt=metric.attempt,
        split=metric.split,
        step=metric.step,
        values=metric.values,
    )
