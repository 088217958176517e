"""Jobs as the API shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Object
from api.plans.schemas import JobPlan
from db.models import Event, Metric

Status = Literal["queued", "preparing", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
Figures = dict[str, float | None]


class ArtifactSummary(Object):
    """The essential facts of an artifact."""

    kind: Literal["model", "adapter", "checkpoint"]
    name: str | None
    version: int | None
    digest: str


class JobError(BaseModel):
    """Why a job failed; `mend` says how to fix it."""

    model_config = ConfigDict(populate_by_name=True)

    failure: str = Field(alias="class")
    code: str | None
    message: str | None
    mend: str | None


class JobResult(BaseModel):
    """The final metrics of a job; `groups` has those of each subject of a multiple-choice file."""

    metrics: Figures
    groups: dict[str, Figures]


class JobObject(Object):
    """A job. `attempt` counts its starts, `base` is what it trains or evaluates, `artifacts` are what it made.

    `result_files` are the ids of files: an evaluation leaves one with a line for every row, a fine-tuning job the adapter
    as a tar. `estimated_start_at` follows from the estimates of running jobs, and is null while they have none.
    `last_seq` is the number of the newest event or metric: a stream that starts after it has only newer ones.
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
    """An event of a job; `seq` numbers its events and metrics together."""

    object: Literal["event"] = "event"
    seq: int
    type: str
    time: float
    attempt: int | None
    level: str
    message: str
    data: dict[str, Any] | None


class MetricObject(BaseModel):
    """The metrics of one step."""

    object: Literal["metrics"] = "metrics"
    seq: int
    type: Literal["metrics"] = "metrics"
    time: float
    attempt: int | None
    split: str
    step: int
    values: Figures


class JobConfig(Object):
    """The configuration of a job. `origins` has, by path, where each value comes from.

    It is empty where this release no longer accepts the spec.
    """

    object: Literal["config"] = "config"
    spec: dict[str, Any]
    origins: dict[str, Literal["default", "auto", "set"]]


class CurveObject(BaseModel):
    """One metric over the steps of a job, in columns of equal length; null stands for a value that was not finite.

    Of all `total` points, these are the first, the last, and the lowest and highest of each stretch between them.
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
    """The mean loss of a row of a training file over its labels; null where it is not finite."""

    file: str
    line: int
    loss: float | None
    labels: int


class StepRows(BaseModel):
    """The rows that a step was trained on, those with the highest loss first."""

    object: Literal["step.rows"] = "step.rows"
    step: int
    data: list[RowLossObject]


class ScoredRow(BaseModel):
    """A row of an evaluation with the scores of each model; `row` is null once its file is deleted.

    `number` counts the rows that were scored. The scores depend on the task: a loss; for multiple choice the `chosen`
    answer and whether it is `correct`, for each way of scoring; for generation the `text`, its `answer` and the
    `reference`.
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
