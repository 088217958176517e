"""The one job spec: the HTTP body, the JSON in the database and the engine's input."""

import operator
from functools import reduce
from pkgutil import resolve_name
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import SpecError
from engine.kinds.eval.spec import EvalSpec
from engine.parts import Hyperparameters, JobPart, TrainingSpec
from engine.rundir import RunDirectory

AnySpec: TypeAlias = TrainingSpec | EvalSpec

_SPECS = {
    "pretrain": "engine.kinds.pretrain.spec:PretrainSpec",
    "sft": "engine.kinds.sft.spec:SftSpec",
    "dpo": "engine.kinds.dpo.spec:DpoSpec",
    "eval": "engine.kinds.eval.spec:EvalSpec",
}
"""A new kind is its folder, a line here, and in `engine.objectives` an import and a line."""

SPECS: dict[str, type[JobPart]] = {kind: resolve_name(path) for kind, path in _SPECS.items()}

_ANY_KIND: Any = reduce(operator.or_, SPECS.values())
JOB_SPEC: TypeAdapter[AnySpec] = TypeAdapter(
    Annotated[_ANY_KIND, Field(discriminator="kind")]  # type: ignore[valid-type] - a union made of the table above
)

Spec = TypeVar("Spec", bound=AnySpec)

# The values of `auto` that do not depend on the machine; a kind's own defaults are in its spec.
# LoRA wants about ten times the full-tuning rate (Schulman et al., "LoRA Without Regret", 2025).
_ADAPTER_FACTOR = 10
_RSLORA_FACTOR = 0.25
"""At rank 16 rsLoRA multiplies the update by sqrt(16) more than LoRA; their steps are then of the same size."""
_BATCH_ROWS = 8
_SAVE_SHARE = 0.1


def spec_of(run: RunDirectory) -> AnySpec:
    """Return the spec in job.json, with every `auto` resolved that does not depend on the machine.

    Raises:
        SpecError: there is none, or it is not valid.
    """
    job = run.read_job()
    try:
        return resolve(JOB_SPEC.validate_python(job["spec"]))
    except KeyError as error:
        raise SpecError("job_not_read", "job.json holds no spec", "Write it as the API does.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"][1:]))  # without the kind
        message = ": ".join(filter(None, ("this release does not take the job's spec", place, first["msg"])))
        raise SpecError("job_not_read", message, "Correct that and submit the job again.") from error


def resolve(spec: Spec) -> Spec:
    """Return the spec with every `auto` resolved that does not depend on the worker's machine.

    Device and precision stay `auto` until the engine starts, which reports them in its `started` event.
    """
    if not isinstance(spec, TrainingSpec):
        return spec
    checkpoints = spec.checkpoints
    save_steps = _SAVE_SHARE if checkpoints.save_steps == "auto" else checkpoints.save_steps
    eval_steps = save_steps if checkpoints.eval_steps == "auto" else checkpoints.eval_steps
    greater = spec.METRICS[checkpoints.metric_for_best_model]
    update = {"save_steps": save_steps, "eval_steps": eval_steps, "greater_is_better": greater}
    return spec.model_copy(
        update={
            "hyperparameters": _resolve_hyperparameters(spec),
            "checkpoints": checkpoints.model_copy(update=update),
        }
    )


def _resolve_hyperparameters(spec: TrainingSpec) -> Hyperparameters:
    given = spec.hyperparameters
    update: dict[str, Any] = {}
    if given.num_train_epochs is None and given.max_steps is None:
        update["num_train_epochs"] = spec.EPOCHS
    if given.per_device_train_batch_size == "auto":
        update["per_device_train_batch_size"] = _BATCH_ROWS
    if given.gradient_accumulation_steps == "auto":
        update["gradient_accumulation_steps"] = 1
    if given.learning_rate == "auto":
        update["learning_rate"] = auto_rate(spec)
    return given.model_copy(update=update)


def auto_rate(spec: TrainingSpec) -> float:
    """Return the learning rate that `auto` stands for. Where any weights are trained in full, it is the rate for those."""
    tuning = spec.adapter()
    if tuning is None or tuning.modules_to_save:
        return spec.full_rate()
    return spec.full_rate() * _ADAPTER_FACTOR * (_RSLORA_FACTOR if tuning.use_rslora else 1)


class NamedFile(NamedTuple):
    """A file that a spec names: its path in the spec, its name in the run directory's `data/`, and its id."""

    path: str
    name: str
    file_id: str


_DATA = {"training_file": "train", "validation_file": "validation", "eval_file": "eval", "fewshot_file": "fewshot"}
_MIXTURES = {"mixture": "train", "annealing": "annealing"}


def named_files(spec: dict[str, Any]) -> list[NamedFile]:
    """Return the files that a spec, dumped as JSON, names."""
    single = [NamedFile(field, name, spec[field]) for field, name in _DATA.items() if spec.get(field)]
    shares = [
        NamedFile(f"{field}[{number}].file", f"{name}-{number}", share["file"])
        for field, name in _MIXTURES.items()
        for number, share in enumerate(spec.get(field) or ())
    ]
    return [named for named in (*single, *shares) if named.file_id != "auto"]


def training_files(spec: dict[str, Any]) -> list[NamedFile]:
    """Return the files that are trained on, in the order in which the engine numbers them."""
    return [named for named in named_files(spec) if named.name.partition("-")[0] in _MIXTURES.values()]
