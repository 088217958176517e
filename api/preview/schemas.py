"""Previews as the API shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.numbers import WHOLE

MOST_STEP = 10_000

Line = Annotated[int, Field(ge=1, le=2**40, strict=True), WHOLE]


class PreviewRequest(BaseModel):
    """A job spec, as for POST /v1/jobs, and what is to be shown of its rows: some lines, or all rows of a step."""

    model_config = ConfigDict(extra="forbid")

    spec: dict[str, Any] = Field(description="kind, model and training_file are enough; defaults are those of a job.")
    lines: list[Line] | None = Field(
        default=None, min_length=1, max_length=100, description="Lines of the first training file, from 1."
    )
    after_line: Annotated[int, Field(ge=0, le=2**40, strict=True), WHOLE] = Field(
        default=0, description="Show the rows that follow this line."
    )
    limit: Annotated[int, Field(ge=1, le=100, strict=True), WHOLE] = Field(default=5, description="So many of them.")
    step: Annotated[int, Field(ge=1, le=MOST_STEP, strict=True), WHOLE] | None = Field(
        default=None, description="Show what this step trains on instead, as packed."
    )
    statistics: bool = Field(default=False, strict=True, description="Count all rows too.")


class PreviewDocument(BaseModel):
    """A document as it is trained on: `pieces` are its tokens as text, `trained` tells which of them are labels.

    `answer` tells the two documents of a pair apart.
    """

    line: int
    answer: Literal["chosen", "rejected"] | None
    ids: list[int]
    pieces: list[str]
    trained: list[bool]


class PreviewRow(BaseModel):
    """A line and what it becomes. `reason` of a row left out: dropped, no_trained_token, excluded or not_a_row.

    Not `complete` when it, and the rows before it, are too long to be shown whole: its first tokens are shown, or none.
    """

    line: int
    split: Literal["train", "validation", "left_out"]
    truncated: bool
    reason: Literal["dropped", "no_trained_token", "excluded", "not_a_row"] | None
    documents: list[PreviewDocument]
    complete: bool


class PackedRow(BaseModel):
    """Documents that share a row; none sees another."""

    documents: list[PreviewDocument]


class MicroBatch(BaseModel):
    """The rows of one forward and backward pass."""

    rows: list[PackedRow]


class PreviewStep(BaseModel):
    """What an optimizer step is taken on; not `complete` when it is too long to be shown whole."""

    step: int
    batches: list[MicroBatch]
    tokens: int
    complete: bool


class LeftOutLines(BaseModel):
    """The first lines of each."""

    truncated: list[int]
    dropped: list[int]
    no_trained_token: list[int]


class Histogram(BaseModel):
    """Rows by their tokens before they are cut: `edges` are where the bins begin and where the last one ends."""

    edges: list[int]
    counts: list[int]


class FileStatistics(BaseModel):
    """The training rows of a file; not `complete` when it is so long that only a part from all over it was counted."""

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
    """What a job would train on, by the code that trains."""

    object: Literal["preview"] = "preview"
    spec: dict[str, Any]
    max_length: int
    packing: bool
    rows: list[PreviewRow]
    step: PreviewStep | None
    statistics: list[FileStatistics]
