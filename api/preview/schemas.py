"""Previews as the API shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.numbers import WHOLE

MOST_STEP = 10_000

Line = Annotated[int, Field(ge=1, le=2**40, strict=True), WHOLE]


class PreviewRequest(BaseModel):
    """A job spec, as for POST /v1/jobs, and the rows to show: some lines, or all rows of a step."""

    model_config = ConfigDict(extra="forbid")

    spec: dict[str, Any] = Field(
        description="A job spec, in which kind, model and training_file are enough; defaults are those of a job."
    )
    lines: list[Line] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="The lines to show, of the first training file, counted from 1.",
    )
    after_line: Annotated[int, Field(ge=0, le=2**40, strict=True), WHOLE] = Field(
        default=0, description="The line after which rows are shown."
    )
    limit: Annotated[int, Field(ge=1, le=100, strict=True), WHOLE] = Field(
        default=5, description="The maximum number of rows shown."
    )
    step: Annotated[int, Field(ge=1, le=MOST_STEP, strict=True), WHOLE] | None = Field(
        default=None, description="The optimizer step whose packed rows are shown instead."
    )
    statistics: bool = Field(default=False, strict=True, description="Whether to count all rows of the files too.")


class PreviewDocument(BaseModel):
    """A document as it is trained on: `pieces` are its tokens as text, `trained` says which of them are labels.

    `answer` distinguishes the two documents of a preference pair.
    """

    line: int
    answer: Literal["chosen", "rejected"] | None
    ids: list[int]
    pieces: list[str]
    trained: list[bool]


class PreviewRow(BaseModel):
    """A line and what becomes of it; `reason` says why a row is left out.

    A row is not `complete` when it is too long to be shown whole together with the rows before it: then only its first
    tokens are shown, or none.
    """

    line: int
    split: Literal["train", "validation", "left_out"]
    truncated: bool
    reason: Literal["dropped", "no_trained_token", "excluded", "not_a_row"] | None
    documents: list[PreviewDocument]
    complete: bool


class PackedRow(BaseModel):
    """Documents packed into one row; none attends to another."""

    documents: list[PreviewDocument]


class MicroBatch(BaseModel):
    """The rows of one forward and backward pass."""

    rows: list[PackedRow]


class PreviewStep(BaseModel):
    """The batches of an optimizer step; not `complete` when they are too long to be shown whole."""

    step: int
    batches: list[MicroBatch]
    tokens: int
    complete: bool


class LeftOutLines(BaseModel):
    """The first lines that were truncated or left out, by reason."""

    truncated: list[int]
    dropped: list[int]
    no_trained_token: list[int]


class Histogram(BaseModel):
    """A histogram of rows by their tokens before truncation; `edges` are the starts of the bins and the end of the last."""

    edges: list[int]
    counts: list[int]


class FileStatistics(BaseModel):
    """Statistics of the training rows of a file; not `complete` when only a sample of a long file was counted."""

    file: str
    rows: int
    complete: bool
    documents: int
    tokens: int
    trained_tokens: int
    truncated: int
    dropped: int
    no_trained_token: int
    lines: LeftOutLines
    longest: int
    lengths: Histogram


class Preview(BaseModel):
    """What a job would train on, computed by the trainer's own code."""

    object: Literal["preview"] = "preview"
    spec: dict[str, Any]
    max_length: int
    packing: bool
    rows: list[PreviewRow]
    step: PreviewStep | None
    statistics: list[FileStatistics]
