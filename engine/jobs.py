"""The one job spec: the HTTP body, the JSON in the database and the engine's input."""

import difflib
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from engine.kinds.dpo.spec import DpoSpec
from engine.kinds.eval.spec import EvalSpec
from engine.kinds.pretrain.spec import PretrainSpec
from engine.kinds.sft.spec import SftSpec
from engine.parts import AdapterTuning, Hyperparameters

TrainingSpec: TypeAlias = PretrainSpec | SftSpec | DpoSpec
AnySpec: TypeAlias = TrainingSpec | EvalSpec

JobSpec = Annotated[AnySpec, Field(discriminator="kind")]

JOB_SPEC: TypeAdapter[AnySpec] = TypeAdapter(JobSpec)

SPECS: dict[str, type[BaseModel]] = {"pretrain": PretrainSpec, "sft": SftSpec, "dpo": DpoSpec, "eval": EvalSpec}

Spec = TypeVar("Spec", bound=AnySpec)

# What `auto` stands for where it does not depend on the machine. LoRA wants about ten times
# the full-tuning rate (Schulman et al., "LoRA Without Regret", 2025). DPO's rates are TRL's.
_LEARNING_RATE = {"pretrain": 1e-3, "sft": 1e-4, "dpo": 1e-6}
_ADAPTER_FACTOR = 10
_BATCH_ROWS = 8
_EPOCHS = {"pretrain": 1.0, "sft": 3.0, "dpo": 1.0}
_SAVE_SHARE = 0.1


def resolve(spec: Spec) -> Spec:
    """The spec with every `auto` replaced that does not depend on the worker's machine.

    Device and precision stay `auto` until the engine starts, which reports them in its `started` event.
    """
    if isinstance(spec, EvalSpec):
        return spec
    adapter = isinstance(spec, SftSpec | DpoSpec) and isinstance(spec.tuning, AdapterTuning)
    checkpoints = spec.checkpoints
    save_steps = _SAVE_SHARE if checkpoints.save_steps == "auto" else checkpoints.save_steps
    eval_steps = save_steps if checkpoints.eval_steps == "auto" else checkpoints.eval_steps
    return spec.model_copy(
        update={
            "hyperparameters": _resolve_hyperparameters(spec.hyperparameters, spec.kind, adapter),
            "checkpoints": checkpoints.model_copy(update={"save_steps": save_steps, "eval_steps": eval_steps}),
        }
    )


def _resolve_hyperparameters(given: Hyperparameters, kind: str, adapter: bool) -> Hyperparameters:
    update: dict[str, Any] = {}
    if given.num_train_epochs is None and given.max_steps is None:
        update["num_train_epochs"] = _EPOCHS[kind]
    if given.per_device_train_batch_size == "auto":
        update["per_device_train_batch_size"] = _BATCH_ROWS
    if given.gradient_accumulation_steps == "auto":
        update["gradient_accumulation_steps"] = 1
    if given.learning_rate == "auto":
        update["learning_rate"] = _LEARNING_RATE[kind] * (_ADAPTER_FACTOR if adapter else 1)
    return given.model_copy(update=update)


def did_you_mean(unknown: str, known: list[str]) -> str | None:
    """The known name nearest to a mistyped one, or None when nothing is near."""
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.6)
    return near[0] if near else None
