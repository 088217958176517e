"""Evaluation: a model or adapter on held-out rows, by loss, by multiple choice or by the answers that it writes."""

import re
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, model_validator

from engine.parts import Auto, FileId, JobPart, Lines, Part, Reference, Text
from engine.rows import PURPOSES

GSM8K_PATTERN = r"#### (-?[0-9.,]+)"
"""The answer by lm_eval's strict-match filter of the task gsm8k."""

_ANSWERED = ("chat", "completion", "instruction")
_FORMATS = {
    "auto": ("multiple_choice", *_ANSWERED, *PURPOSES["pretrain"]),
    "loss": (*_ANSWERED, *PURPOSES["pretrain"]),
    "tokens": (*_ANSWERED, *PURPOSES["pretrain"]),
    "multiple_choice": ("multiple_choice",),
    "generate": _ANSWERED,
}
_OF_GENERATION = ("max_new_tokens", "temperature", "stop", "answer_pattern")
_Stop = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
_Pattern = Annotated[Text, StringConstraints(min_length=1, max_length=200)]


class EvalSettings(Part):
    """How the rows are read and scored."""

    task: Literal["auto", "loss", "multiple_choice", "generate", "tokens"] = Field(
        default="auto",
        description="auto: multiple_choice for such files, loss for all others. generate: the last answer of a row is "
        "the reference for what the model writes. tokens: the loss of every token of `rows`, read as in training: with "
        "the checkpoint that a step began from, it is the row's loss at that step.",
    )
    rows: Lines = Field(
        default=(), max_length=1000, description="tokens: lines of eval_file whose rows are scored, counted from 1."
    )
    num_fewshot: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Solved examples before each question, the first of fewshot_file that are not the row itself.",
    )
    max_new_tokens: int = Field(default=256, ge=1, le=65_536)
    temperature: float = Field(
        default=0.0, ge=0, le=100, description="0: greedy. Otherwise sampled, with the job's seed."
    )
    stop: tuple[_Stop, ...] = Field(default=(), max_length=16, description="Strings that end an answer.")
    answer_pattern: _Pattern | Auto | None = Field(
        default="auto",
        description="Regular expression whose first group is the answer in a text; null: the whole text. "
        "auto: what follows #### (GSM8K) if every reference has it, else null.",
    )
    max_length: int = Field(
        default=1024, ge=8, le=1_048_576, validation_alias=AliasChoices("max_length", "cutoff_len", "max_seq_length")
    )
    long_rows: Literal["truncate", "drop"] = Field(
        default="truncate",
        description="What happens to conversations over max_length; a text continues in further rows.",
    )
    per_device_eval_batch_size: int = Field(
        default=8, ge=1, le=65_536, validation_alias=AliasChoices("per_device_eval_batch_size", "batch_size")
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    @model_validator(mode="after")
    def _of_the_task(self) -> Self:
        given = [name for name in _OF_GENERATION if getattr(self, name) != type(self).model_fields[name].default]
        if given and self.task != "generate":
            raise ValueError(f"{given[0]} belongs to task 'generate'; the task is {self.task!r}")
        if bool(self.rows) != (self.task == "tokens"):
            raise ValueError(f"rows and task 'tokens' belong together; the task is {self.task!r}")
        if self.num_fewshot and self.task in {"loss", "tokens"}:
            raise ValueError(f"num_fewshot belongs to tasks with questions; {self.task!r} has none")
        if self.long_rows == "drop" and self.task in {"multiple_choice", "generate"}:
            raise ValueError(
                f"long_rows is for what is scored whole; a prompt of task {self.task!r} loses its beginning"
            )
        if self.task == "generate" and self.max_new_tokens >= self.max_length:
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} leaves no room for a prompt in max_length {self.max_length}"
            )
        return self

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        if self.answer_pattern in {None, "auto"}:
            return self
        try:
            groups = re.compile(str(self.answer_pattern)).groups
        except re.error as error:
            raise ValueError(f"answer_pattern is no regular expression: {error}") from error
        if groups == 0:
            raise ValueError("answer_pattern has no group; put what is the answer in ( )")
        return self


class EvalSpec(JobPart):
    """Score a model, adapter or checkpoint on a file."""

    PURPOSE = "evals"
    FORMATS = _FORMATS["auto"]

    kind: Literal["eval"] = "eval"
    model: Reference
    compare_to: Reference | None = Field(
        default=None, description="The baseline, scored on the same rows, that `model` is compared with."
    )
    eval_file: FileId
    fewshot_file: FileId | None = Field(default=None, description="Where the solved examples come from.")
    evaluation: EvalSettings = EvalSettings()

    def takes(self) -> tuple[str, ...]:
        return _FORMATS[self.evaluation.task]

    @model_validator(mode="after")
    def _on_one_worker(self) -> Self:
        if self.resources.num_nodes > 1:
            raise ValueError(
                f"resources.num_nodes is {self.resources.num_nodes}; an evaluation runs on one worker, with "
                "nproc_per_node processes"
            )
        if self.resources.parallel.team > 1:
            raise ValueError("resources.parallel shares a training's rows; in an evaluation each process takes its own")
        if (stage := self.resources.parallel.zero_stage) not in {"auto", 0}:
            raise ValueError(
                f"resources.parallel.zero_stage is {stage}; it divides what a training keeps, and in an evaluation each "
                "process holds the whole model: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _to_the_end(self) -> Self:
        if self.resources.max_minutes is not None:
            raise ValueError(
                f"resources.max_minutes is {self.resources.max_minutes:g}; an evaluation has nothing to keep before its "
                "end: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _fewshot(self) -> Self:
        if (self.fewshot_file is None) != (self.evaluation.num_fewshot == 0):
            raise ValueError("fewshot_file and evaluation.num_fewshot belong together; give both or neither")
        return self
