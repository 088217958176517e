"""Evaluation: loss, perplexity and bits per byte of a model or adapter on held-out rows."""

from typing import Literal

from pydantic import AliasChoices, Field

from engine.parts import FileId, JobPart, Part, Reference
from engine.rows import PURPOSES


class EvalSettings(Part):
    """How the rows are read; nothing here changes the figures except max_length and long_rows."""

    max_length: int = Field(
        default=1024, ge=8, le=1_048_576, validation_alias=AliasChoices("max_length", "cutoff_len", "max_seq_length")
    )
    long_rows: Literal["truncate", "drop"] = "truncate"
    per_device_eval_batch_size: int = Field(
        default=8, ge=1, le=65_536, validation_alias=AliasChoices("per_device_eval_batch_size", "batch_size")
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"


class EvalSpec(JobPart):
    """Score a model, adapter or checkpoint on a file."""

    PURPOSE = "evals"
    FORMATS = PURPOSES["evals"]

    kind: Literal["eval"] = "eval"
    model: Reference
    eval_file: FileId
    evaluation: EvalSettings = EvalSettings()

    def starts_from_adapter(self) -> bool:
        return True
