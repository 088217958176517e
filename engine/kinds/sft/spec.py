"""Supervised fine-tuning: loss on the answers of chat, prompt/completion or instruction rows."""

from typing import Literal

from pydantic import Field

from engine.parts import (
    TOKEN_METRICS,
    Auto,
    FileId,
    LoraTuning,
    MixedTrainingSpec,
    StartingPoint,
    Tuning,
)


class SftSpec(MixedTrainingSpec):
    """Fine-tune a model, or continue an adapter, on rows with answers."""

    PURPOSE = "fine-tune"
    FORMATS = ("chat", "completion", "instruction")
    LEARNING_RATE = 1e-4
    EPOCHS = 3.0
    METRICS = TOKEN_METRICS

    kind: Literal["sft"] = "sft"
    model: StartingPoint
    validation_file: FileId | Auto | None = Field(default="auto", description="auto: 5% of the rows, chosen by hash.")
    tuning: Tuning = LoraTuning()
