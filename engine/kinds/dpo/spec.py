"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290): learn from pairs of answers."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.parts import (
    Auto,
    FileId,
    LoraTuning,
    Part,
    StartingPoint,
    TrainingSpec,
    Tuning,
)


class DpoLoss(Part):
    """The loss, under TRL's names and definitions."""

    beta: float = Field(
        default=0.1,
        gt=0,
        le=1000,
        description="How strongly the model is held to its starting weights; the regularisation (tau) of ipo.",
    )
    loss_type: Literal["sigmoid", "ipo", "hinge", "robust", "sigmoid_norm"] = Field(
        default="sigmoid",
        description="sigmoid, hinge and robust take sums of log-probabilities; "
        "ipo and sigmoid_norm divide them by the answer's tokens.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of pairs whose preference is the wrong way round; for robust."
    )

    reference: Literal["cached", "disabled_adapter", "frozen_copy"] = Field(
        default="cached",
        description="How the log-probabilities of the starting weights are obtained. cached: computed once and kept; "
        "disabled_adapter: in every step, with the adapter disabled; frozen_copy: in every step, by a second model.",
    )

    @model_validator(mode="after")
    def _smoothing(self) -> Self:
        if self.label_smoothing and self.loss_type != "robust":
            raise ValueError(f"label_smoothing belongs to loss_type 'robust'; {self.loss_type!r} has none")
        return self


class DpoSpec(TrainingSpec):
    """Tune a model, or continue an adapter, so that it prefers the chosen answers to the rejected ones."""

    PURPOSE = "fine-tune"
    FORMATS = ("preference", "preferred_output")
    LEARNING_RATE = 1e-6  # TRL's
    METRICS: ClassVar = {
        "eval_loss": False,
        "eval_accuracy": True,
        "eval_rewards/accuracies": True,
        "eval_rewards/margins": True,
    }

    kind: Literal["dpo"] = "dpo"
    model: StartingPoint
    training_file: FileId
    validation_file: FileId | Auto | None = Field(default="auto", description="auto: 5% of the pairs, chosen by hash.")
    dpo: DpoLoss = DpoLoss()
    tuning: Tuning = LoraTuning()

    @property
    def frozen_models(self) -> int:
        """How many copies of the starting weights are held beside the model that is trained."""
        return int(self.dpo.reference == "frozen_copy")

    @model_validator(mode="after")
    def _reference(self) -> Self:
        if self.dpo.reference == "disabled_adapter" and self.tuning.method == "full":
            raise ValueError("dpo.reference 'disabled_adapter' needs an adapter; use 'cached' or 'frozen_copy'")
        if self.dpo.reference != "cached" and self.resources.parallel.pp_size > 1:
            raise ValueError(
                f"dpo.reference {self.dpo.reference!r} needs all layers, which pp_size divides; use 'cached'"
            )
        return self
