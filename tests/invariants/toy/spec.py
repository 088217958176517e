"""A kind that exists in a test alone: the next token of texts, every one of them written backwards."""

from typing import Literal

from engine.parts import TOKEN_METRICS, FileId, Reference, TrainingSpec


class ToySpec(TrainingSpec):
    """Learn to write backwards."""

    PURPOSE = "pretrain"
    FORMATS = ("text_jsonl",)
    LEARNING_RATE = 1e-2
    METRICS = TOKEN_METRICS

    kind: Literal["toy"] = "toy"
    model: Reference
    training_file: FileId
