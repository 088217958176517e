"""The fields of every kind that trains, and the defaults in which the kinds differ."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.parts.checkpoints import Checkpoints
from engine.parts.hyperparameters import Hyperparameters
from engine.parts.job import JobPart
from engine.parts.part import Lines
from engine.parts.samples import Samples
from engine.parts.sharing import refused
from engine.parts.tuning import AdapterTuning, FullTuning

TOKEN_METRICS = {"eval_loss": False, "eval_perplexity": False, "eval_bits_per_byte": False}
"""The `METRICS` of a kind whose loss is that of the next token."""


class TrainingSpec(JobPart):
    """A job that trains. The class variables of a kind are the values that `auto` stands for in it."""

    LEARNING_RATE: ClassVar[float]
    EPOCHS: ClassVar[float] = 1.0
    METRICS: ClassVar[dict[str, bool]]
    """The metrics by which the best checkpoint may be chosen, and whether greater is better."""

    hyperparameters: Hyperparameters = Hyperparameters()
    checkpoints: Checkpoints = Checkpoints()
    exclude_rows: Lines = Field(
        default=(),
        max_length=10_000,
        description="Lines of training_file whose rows are not trained on, counted from 1; held-out rows remain so.",
    )
    optimizer_state: Literal["fresh", "kept"] = Field(
        default="fresh",
        description="kept: if `model` is a checkpoint, the optimizer starts with its moments. Steps, schedule and "
        "data start from the beginning either way.",
    )
    samples: Samples | None = Field(default=None, description="Prompts that are answered at every evaluation.")

    def full_rate(self) -> float:
        """Return the `auto` learning rate where all weights are trained."""
        return self.LEARNING_RATE

    def adapter(self) -> AdapterTuning | None:
        """Return the settings of the adapter that the job trains, if any."""
        tuning = getattr(self, "tuning", None)
        return tuning if isinstance(tuning, AdapterTuning) else None

    def starts_from_adapter(self) -> bool:
        return self.adapter() is not None

    @model_validator(mode="after")
    def _optimizer_of_a_checkpoint(self) -> Self:
        if self.optimizer_state == "kept" and not isinstance(self.model, str):
            raise ValueError("optimizer_state is 'kept', and a new model has no such state; name a checkpoint as model")
        return self

    @model_validator(mode="after")
    def _weights_that_learn_on_the_disk(self) -> Self:
        """Refuse what no device can do; engine.plan.weights checks the rest once the device is known."""
        hyper = self.hyperparameters
        if hyper.offload_param == "disk" and hyper.offload_optimizer != "disk" and self.adapter() is None:
            raise ValueError(
                "hyperparameters.offload_param is 'disk' and all weights are trained, which takes a disk optimizer; "
                "set offload_optimizer to 'disk' as well, or offload_param to 'none'"
            )
        return self

    @model_validator(mode="after")
    def _processes_can_share_it(self) -> Self:
        refusal = refused(self.resources, self.hyperparameters, getattr(self, "tuning", FullTuning()))
        if refusal is not None:
            raise ValueError(str(refusal))
        return self

    @model_validator(mode="after")
    def _samples_fit(self) -> Self:
        if self.samples is not None and self.samples.max_new_tokens >= self.hyperparameters.max_length:
            given = f"samples.max_new_tokens is {self.samples.max_new_tokens}"
            raise ValueError(f"{given}; it must be below hyperparameters.max_length, {self.hyperparameters.max_length}")
        return self

    @model_validator(mode="after")
    def _writes_with_all_layers(self) -> Self:
        if self.samples is not None and self.resources.parallel.pp_size > 1:
            raise ValueError("samples are generated with all layers, which pp_size divides; leave one of them out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _metric_by_its_full_name(cls, given: Any) -> Any:
        """Accept a metric without its prefix, like Hugging Face: `loss` for `eval_loss`."""
        rules = given.get("checkpoints") if isinstance(given, dict) else None
        full_name = f"eval_{rules.get('metric_for_best_model')}" if isinstance(rules, dict) else None
        if rules is None or full_name not in cls.METRICS:
            return given
        return given | {"checkpoints": rules | {"metric_for_best_model": full_name}}

    @model_validator(mode="after")
    def _metric_is_one_of_the_kind(self) -> Self:
        rules, metrics = self.checkpoints, type(self).METRICS
        metric = rules.metric_for_best_model
        if metric not in metrics:
            raise ValueError(f"checkpoints.metric_for_best_model is {metric!r}; this kind has {', '.join(metrics)}")
        if rules.greater_is_better not in {None, metrics[metric]}:
            better = "greater" if metrics[metric] else "lower"
            raise ValueError(f"checkpoints.greater_is_better: for {metric}, {better} is better; leave it out")
        if rules.early_stopping_patience is not None and getattr(self, "validation_file", "auto") is None:
            raise ValueError("checkpoints.early_stopping_patience needs held-out rows; validation_file is null")
        return self
