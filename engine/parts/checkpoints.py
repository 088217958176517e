"""When a run is evaluated and saved."""

from typing import Self

from pydantic import Field, model_validator

from engine.parts.part import Auto, Part


class Checkpoints(Part):
    """When the state of a run is saved, and which saved state counts as the best."""

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
        description="The figure of the evaluations by which a checkpoint is the best; the best one is exported.",
    )
    greater_is_better: bool | None = Field(default=None, description="Known of every metric; need not be given.")
    early_stopping_patience: int | None = Field(
        default=None, ge=1, le=1_000_000, description="The run ends after so many evaluations in a row without a gain."
    )
    early_stopping_threshold: float = Field(
        default=0.0, ge=0, le=1e9, description="By how much an evaluation must beat the best one to count as a gain."
    )

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name in ("save_steps", "eval_steps"):
            value = getattr(self, name)
            if value != "auto" and not 0 < value <= 100_000_000:
                raise ValueError(f"{name} is {value}; it must be above 0, or 'auto'")
        return self
