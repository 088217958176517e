"""Supervised fine-tuning: loss on the answers of chat, prompt/completion or instruction rows."""

from typing import Literal

from pydantic import Field

from engine.parts import (
    Auto,
    Checkpoints,
    FileId,
    Hyperparameters,
    JobPart,
    LoraTuning,
    Reference,
    Tuning,
)


class SftSpec(JobPart):
    """Fine-tune a model, or go on tuning an adapter, on rows with answers."""

    kind: Literal["sft"] = "sft"
    model: Reference
    training_file: FileId
    validation_file: FileId | Auto | None = Field(default="auto", description="auto: 5% of the rows, chosen by hash.")
    tuning: Tuning = LoraTuning()
    hyperparameters: Hyperparameters = Hyperparameters()
    checkpoints: Checkpoints = Checkpoints()
