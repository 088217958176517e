"""Fine-tuning jobs as OpenAI's clients send and read them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Object
from engine.parts import Metadata


class _Open(BaseModel):
    """A part of a request; keys that OpenAI's clients do not send are validated as keys of the job spec."""

    model_config = ConfigDict(extra="allow")


Multiplier = Annotated[float, Field(gt=0, le=1000)] | Literal["auto"]
"""A factor of the learning rate that `auto` stands for."""


class TuningHyperparameters(_Open):
    """OpenAI's hyperparameters, and any of the job spec's."""

    learning_rate_multiplier: Multiplier | None = "auto"


class TuningMethod(_Open):
    """The settings of one method."""

    hyperparameters: TuningHyperparameters | None = None


class Method(BaseModel):
    """How to tune, with the settings under the name of the method."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["supervised", "dpo", "pretrain"]
    supervised: TuningMethod | None = None
    dpo: TuningMethod | None = None
    pretrain: TuningMethod | None = None
    reinforcement: None = Field(default=None, description="Not supported; must be null or left out.")

    def hyperparameters(self) -> TuningHyperparameters | None:
        settings: TuningMethod | None = getattr(self, self.type)
        return None if settings is None else settings.hyperparameters


class Wandb(_Open):
    """The Weights & Biases project of a run."""

    project: Annotated[str, Field(max_length=256)]


class Integration(BaseModel):
    """An integration, accepted so that clients work; nothing is sent to it, which an event of the job reports."""

    type: Literal["wandb"]
    wandb: Wandb


class JobRequest(_Open):
    """The body of `fine_tuning.jobs.create`, which may also contain keys of the job spec (through `extra_body`)."""

    model: Any
    training_file: str | None = None
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: TuningHyperparameters | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    metadata: Metadata | None = None


class FineTuningJob(Object):
    """A job as OpenAI's clients read it, with the rest of its spec and progress under our own names."""

    model_config = ConfigDict(extra="allow")

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: Literal["queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
    model: Any
    fine_tuned_model: str | None
    organization_id: str
    training_file: str | None
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    metadata: dict[str, str]
    method: dict[str, Any]
    hyperparameters: dict[str, Any]
    integrations: list[Integration] = Field(default=[])
    error: dict[str, Any] | None


class FineTuningEvent(Object):
    """An event of a job, or the metrics of one step."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class FineTuningCheckpoint(Object):
    """A checkpoint, which jobs can start from by its name `fine_tuned_model_checkpoint`."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]
