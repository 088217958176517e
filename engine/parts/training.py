"""What every kind that trains has, and where its defaults differ from those of the others."""

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
    """A job that trains. What a kind sets beside its fields is what `auto` stands for with it."""

    LEARNING_RATE: ClassVar[float]
    EPOCHS: ClassVar[float] = 1.0
    METRICS: ClassVar[dict[str, bool]]
    """Figures of its evaluation by which a checkpoint may be the best, and whether greater is better."""

    hyperparameters: Hyperparameters = Hyperparameters()
    checkpoints: Checkpoints = Checkpoints()
    exclude_rows: Lines = Field(
        default=(),
        max_length=10_000,
        description="Lines of training_file whose rows are not trained on, counted from 1; what is held out stays so.",
    )
    optimizer_state: Literal["fresh", "kept"] = Field(
        default="fresh",
        description="kept: where `model` is a checkpoint, the optimizer goes on with its moments. Steps, schedule and "
        "data begin anew either way.",
    )
    samples: Samples | None = Field(default=None, description="Prompts that are answered at every evaluation.")

    def full_rate(self) -> float:
        """What `auto` is where all weights are trained."""
        return self.LEARNING_RATE

    def adapter(self) -> AdapterTuning | None:
        """How its adapter is tuned, if it makes one."""
        tuning = getattr(self, "tuning", None)
        return tuning if isinstance(tuning, AdapterTuning) else None

    def starts_from_adapter(self) -> bool:
        return self.adapter() is not None

    @model_validator(mode="after")
    def _optimizer_of_a_checkpoint(self) -> Self:
        if self.optimizer_state == "kept" and not isinstance(self.model, str):
            raise ValueError("optimizer_state is 'kept', and a new model has none yet; name a checkpoint as model")
        return self

    @model_validator(mode="after")
    def _weights_that_learn_on_the_disk(self) -> Self:
        """What else a device cannot do, whoever knows the device says (engine.plan.weights)."""
        hyper = self.hyperparameters
        if hyper.offload_param == "disk" and hyper.offload_optimizer != "disk" and self.adapter() is None:
            raise ValueError(
                "hyperparameters.offload_param is 'disk', and all weights learn, which an optimizer in memory updates at once; "
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
            told = f"samples.max_new_tokens is {self.samples.max_new_tokens}"
            raise ValueError(f"{told}; it must be below hyperparameters.max_length, {self.hyperparameters.max_length}")
        return self

    @model_validator(mode="after")
    def _writes_with_all_layers(self) -> Self:
        if self.samples is not None and self.resources.parallel.pp_size > 1:
            raise ValueError("samples are written with all layers, which pp_size divides; leave one of them out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _metric_by_its_full_name(cls, given: Any) -> Any:
        """Hugging Face takes `loss` for `eval_loss`."""
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
            raise ValueError(f"checkpoints.greater_is_better: of {metric} the {better} is better; leave it out")
        if rules.early_stopping_patience is not None and getattr(self, "validation_file", "auto") is None:
            raise ValueError("checkpoints.early_stopping_patience needs held-out rows; validation_file is null")
        return self
