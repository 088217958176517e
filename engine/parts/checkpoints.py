"""Evaluations and checkpoints of a run."""

from typing import Self

from pydantic import Field, model_validator

from engine.parts.part import Auto, Part, check_steps


class Checkpoints(Part):
    """When a run is evaluated and saved, and which checkpoint is the best."""

    save_steps: float | Auto = Field(
        default="auto",
        description="Below 1: share of all steps. From 1 on: a number of steps. auto: a tenth of the run.",
    )
    eval_steps: float | Auto = Field(
        default="auto", description="Like save_steps. auto: whenever a checkpoint is saved."
    )
    save_total_limit: int = Field(default=3, ge=1, le=1000, description="Older checkpoints of the job are removed.")
    metric_for_best_model: str = Field(
        default="eval_loss",
        max_length=64,
        description="The metric of the evaluations by which the best checkpoint is chosen; the best one is exported.",
    )
    greater_is_better: bool | None = Field(default=None, description="Known for every metric; can be left out.")
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="The run ends after this many evaluations in a row without an improvement.",
    )
    early_stopping_threshold: float = Field(
        default=0.0, ge=0, le=1e9, description="How much better than the best evaluation counts as an improvement."
    )

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("save_steps", "eval_steps"):
            value = getattr(self, name)
            if value != "auto" and not 0 < value <= 100_000_000:
                raise ValueError(f"{name} is {value}; it must be above 0, or 'auto'")
            if value != "auto":
                check_steps(name, value)
        return self

    @model_validator(mode="after")
    def _threshold_of_a_patience(self) -> Self:
        if self.early_stopping_threshold and self.early_stopping_patience is None:
            raise ValueError(
                f"early_stopping_threshold is {self.early_stopping_threshold:g}; without early_stopping_patience it has "
                "no effect: set that too, or leave it out"
            )
        return self
