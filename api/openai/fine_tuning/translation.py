"""Translation between OpenAI's fine-tuning API and this one: requests to job specs, and jobs to OpenAI's objects."""

from typing import Any

from api.jobs.submit import read_spec
from api.models.schemas import reference
from api.openai.fine_tuning.schemas import (
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    JobRequest,
)
from db import clock, fine_tuned_names
from db.models import Artifact, Job, Project
from db.records import Record
from db.session import Session
from db.state import JobState
from engine.parts import TrainingSpec

KINDS = {"supervised": "sft", "dpo": "dpo", "pretrain": "pretrain"}
"""The kinds of jobs of OpenAI's methods, and of one of our own."""
METHODS = {kind: method for method, kind in KINDS.items()}

_STATUS = {JobState.PREPARING: "running"}
"""States that OpenAI's clients do not know; all others keep their names."""
_TWINS = {"num_train_epochs", "learning_rate"}
"""Hyperparameters that also have a name of OpenAI's. A method shows only one of the two, so that it can be sent back."""
_BATCH_TWINS = {"per_device_train_batch_size", "gradient_accumulation_steps"}
_ONLY_OPENAIS = {"method", "integrations", "hyperparameters"}
_RATE_FIELDS = ("kind", "model", "tuning")
"""The fields of a spec that determine which learning rate `auto` stands for."""
_VALIDATION_LOSSES = ("valid_loss", "full_valid_loss")
"""OpenAI's names for the loss on a batch and on all held-out rows; ours is always the latter."""


def spec_of(asked: JobRequest) -> dict[str, Any]:
    """Return the job spec that a request means.

    A missing validation file means none, as with OpenAI; 'auto' holds rows out, as the native route does.
    """
    spec = asked.model_dump(exclude=_ONLY_OPENAIS | {"model", "metadata"}) | {"model": asked.model}
    method = "supervised" if asked.method is None else asked.method.type
    spec["kind"] = KINDS[method]
    hyperparameters = _given(asked)
    hyperparameters.pop("learning_rate_multiplier", None)
    beta = hyperparameters.pop("beta", None)
    own = {} if spec.get("dpo") is None else spec["dpo"]
    if spec["kind"] == "dpo" and beta is not None and isinstance(own, dict):
        spec["dpo"] = {"beta": beta} | own
    spec["hyperparameters"] = hyperparameters
    if asked.metadata:
        spec["metadata"] = asked.metadata
    return {name: value for name, value in spec.items() if value is not None or name == "validation_file"}


def _given(asked: JobRequest) -> dict[str, Any]:
    """Return the hyperparameters that are set: the method's, and those at the top level that the method does not set.

    Null and "auto" stand for the default.
    """
    parts = (asked.hyperparameters, None if asked.method is None else asked.method.hyperparameters())
    return {
        name: value
        for part in parts
        if part is not None
        for name, value in part
        if value is not None and value != "auto"
    }


def multiplied(spec: dict[str, Any], asked: JobRequest) -> dict[str, Any]:
    """Return the spec with the multiplier applied to the learning rate that `auto` stands for.

    Raises:
        ApiError: 422 when the spec is not valid.
    """
    multiplier = _given(asked).get("learning_rate_multiplier")
    if multiplier is None or "learning_rate" in spec["hyperparameters"]:
        return spec
    return spec | {"hyperparameters": spec["hyperparameters"] | {"learning_rate": _auto_rate(spec) * multiplier}}


def job_object(session: Session, job: Job, made: list[Artifact], project: Project) -> FineTuningJob:
    """Return a job as OpenAI's clients read it; `made` has its results, newest first."""
    spec, progress = job.spec, job.progress or {}
    hyperparameters = _hyperparameters(spec)
    eta_s = progress.get("eta_s") if job.state == JobState.RUNNING else None
    validation = spec.get("validation_file")
    method = METHODS[job.kind]
    # batch_size is the product of the two: sent back by itself, it would be the rows of one pass.
    in_one_pass = hyperparameters["gradient_accumulation_steps"] == 1
    left_out = _TWINS | (_BATCH_TWINS if in_one_pass else {"batch_size"})
    sendable = {name: value for name, value in hyperparameters.items() if name not in left_out}
    fields = {
        "id": job.id,
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "estimated_finish": None if eta_s is None else int(clock.now(session) + eta_s),
        "status": _STATUS.get(JobState(job.state), job.state),
        "fine_tuned_model": _made_model(made, project) if job.state == JobState.SUCCEEDED else None,
        "organization_id": project.id,
        "training_file": spec.get("training_file"),
        "validation_file": validation,
        "result_files": (job.result or {}).get("files", []),
        "trained_tokens": int(progress["tokens"] or 0) if job.state == JobState.SUCCEEDED and progress else None,
        "metadata": spec.get("metadata", {}),
        "method": {"type": method, method: {"hyperparameters": sendable}},
        "hyperparameters": hyperparameters,
        "error": _error(job),
        "step": job.step,
        "total_steps": job.total_steps,
        "progress": progress,
    }
    return FineTuningJob.model_validate(spec | fields)


def _hyperparameters(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the resolved hyperparameters under our names and OpenAI's."""
    ours = spec["hyperparameters"]
    epochs = ours["num_train_epochs"]
    theirs: dict[str, Any] = {
        "n_epochs": int(epochs) if epochs is not None and float(epochs).is_integer() else epochs,
        "batch_size": ours["per_device_train_batch_size"] * ours["gradient_accumulation_steps"],
        "learning_rate_multiplier": ours["learning_rate"] / _auto_rate(_bare(spec)),
    }
    if spec["kind"] == "dpo":
        theirs["beta"] = spec["dpo"]["beta"]
    return ours | theirs


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Return only what the rate of a stored spec depends on: this release may refuse the rest of an older one."""
    fields = {name: spec[name] for name in _RATE_FIELDS if name in spec}
    return fields | {"training_file": "file-any", "hyperparameters": {}}


def _auto_rate(spec: dict[str, Any]) -> float:
    """Return the learning rate that `auto` stands for, of which OpenAI's clients read a multiple."""
    resolved = read_spec(spec | {"hyperparameters": spec["hyperparameters"] | {"learning_rate": "auto"}})
    assert isinstance(resolved, TrainingSpec), "every method trains"
    rate = resolved.hyperparameters.learning_rate
    assert rate != "auto", "it is resolved"
    return rate


def _made_model(made: list[Artifact], project: Project) -> str | None:
    """Return the name of the adapter, or of the model if the job made no adapter."""
    results = sorted(made, key=lambda artifact: artifact.kind)  # an adapter before the model it was merged into
    return None if not results else fine_tuned_names.name(results[0], project.name) or reference(results[0])


def _error(job: Job) -> dict[str, Any] | None:
    if job.state != JobState.FAILED:
        return None
    message = " ".join(filter(None, (job.error_message, job.error_mend)))
    return {"code": job.error_code or "failed", "message": message, "param": None}


def event_object(record: Record) -> FineTuningEvent:
    """Return an event, or the metrics of a step under OpenAI's names and ours."""
    shown = {"id": f"ftevent-{record.seq}", "created_at": int(record.created_at)}
    if record.type != "metrics":
        event = {"level": record.level, "message": record.message, "type": "message", "data": record.data}
        return FineTuningEvent.model_validate(shown | event)
    values = record.values or {}
    training = record.split == "train"
    name, loss = ("train_loss", values.get("loss")) if training else ("full_valid_loss", values.get("eval_loss"))
    summary = "" if loss is None else f": {name.replace('_', ' ')}={loss:.4f}"
    data = {"step": record.step, name: loss} | values
    event = {"level": "info", "message": f"Step {record.step}{summary}", "type": "metrics", "data": data}
    return FineTuningEvent.model_validate(shown | event)


def checkpoint_object(artifact: Artifact, project: Project, train_loss: float | None) -> FineTuningCheckpoint:
    assert artifact.job_id is not None, "only jobs make checkpoints"
    figures = dict.fromkeys(_VALIDATION_LOSSES, artifact.metrics.get("eval_loss"))
    return FineTuningCheckpoint(
        id=artifact.id,
        created_at=int(artifact.created_at),
        fine_tuned_model_checkpoint=fine_tuned_names.name(artifact, project.name) or artifact.id,
        fine_tuning_job_id=artifact.job_id,
        step_number=artifact.step,
        metrics={"step": float(artifact.step), "train_loss": train_loss} | figures,
    )
