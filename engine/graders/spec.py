"""Grader specs, with OpenAI's names. `{{item.x}}` and `{{sample.output_text}}` stand for a row's values."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_serializer,
    model_validator,
)

from engine.graders.formula import check_formula
from engine.graders.similarity import METRICS
from engine.parts import Part, Text

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l", "cosine", "meteor"
]
_Name = Annotated[Text, Field(min_length=1, max_length=256)]
_Template = Annotated[Text, Field(max_length=100_000)]


Finite = Annotated[float, Field(allow_inf_nan=False)]


class TextPart(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["input_text", "output_text", "text"]
    text: _Template


class Message(BaseModel):
    """A message to a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["user", "assistant", "system", "developer"]
    content: _Template | TextPart | Annotated[list[_Template | TextPart], Field(fail_fast=True)]
    type: Literal["message"] | None = None

    @property
    def text(self) -> str:
        """The template, its parts joined."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "".join(part if isinstance(part, str) else part.text for part in parts)


_LIMIT = ("max_completion_tokens", "max_completions_tokens", "max_tokens")
_NULL_TOO = {"temperature", "top_p", "seed", *_LIMIT}
"""Sampling parameters for which null means the default."""


def _or_null(schema: dict[str, Any]) -> None:
    """Allow null in the JSON schema of a field."""
    about = {name: schema.pop(name) for name in ("default", "title") if name in schema}
    own = dict(schema)
    schema.clear()
    schema |= {"anyOf": [own, {"type": "null"}]} | about


class SamplingParams(BaseModel):
    """How the model answers. Without a temperature, greedily: a grade is then reproducible."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False, json_schema_extra=_or_null)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, json_schema_extra=_or_null)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1, json_schema_extra=_or_null)] = 0
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=2**16, validation_alias=AliasChoices(*_LIMIT))] = None
    """OpenAI's clients spell it in two ways. None: only the model's limit for an answer, a short one for a grade."""
    reasoning_effort: None = Field(default=None, exclude=True, description="Not supported; must be null or left out.")

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name not in _NULL_TOO}


class StringCheck(Part):
    """Scores 1 when input and reference compare as `operation` says; like: the input contains the reference."""

    type: Literal["string_check"]
    name: _Name
    input: _Template
    reference: _Template
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Part):
    """Scores the similarity of input and reference from 0 to 1; passes at `pass_threshold` or above."""

    type: Literal["text_similarity"]
    name: _Name
    input: _Template
    reference: _Template
    evaluation_metric: Metric
    pass_threshold: float | None = None

    @model_validator(mode="after")
    def _is_computed(self) -> "TextSimilarity":
        if self.evaluation_metric not in METRICS:
            known = ", ".join(METRICS)
            raise ValueError(f"evaluation_metric {self.evaluation_metric!r} is not computed here; use one of {known}")
        return self


class Judge(Part):
    """The fields of both graders that ask a model. The contents of the messages are templates."""

    name: _Name
    model: _Name
    input: Annotated[list[Message], Field(min_length=1, max_length=100)]
    sampling_params: SamplingParams | None = None

    @field_serializer("sampling_params", mode="wrap")
    def _limit_as_in_graders(
        self, params: SamplingParams | None, dump: SerializerFunctionWrapHandler
    ) -> dict[str, Any] | None:
        """Spell the limit as OpenAI's graders do, unlike its data sources."""
        fields = dump(params)
        if fields and "max_completion_tokens" in fields:
            fields["max_completions_tokens"] = fields.pop("max_completion_tokens")
        return fields


class ScoreModel(Judge):
    """A model gives a score, which must lie in `range` (by default 0 to 1).

    It is the last number of the answer, which must be complete. If the range ends at 10, `8/10` and `8 out of 10` take
    precedence and are 8, unless a later number follows `:`, `=` or `is`, as in `Final score: 7`. The score passes at
    `pass_threshold` or above, by default the middle of the range.
    """

    type: Literal["score_model"]
    range: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    pass_threshold: Finite | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.range is None else (self.range[0], self.range[1])

    @model_validator(mode="after")
    def _threshold_is_in_range(self) -> "ScoreModel":
        low, high = self.bounds
        if low >= high:
            raise ValueError(f"range: {low:g} must be below {high:g}")
        if self.pass_threshold is not None and not low <= self.pass_threshold <= high:
            raise ValueError(f"pass_threshold {self.pass_threshold:g} is not within the range, {low:g} to {high:g}")
        return self


class LabelModel(Judge):
    """A model chooses a label: its answer is one, or names one; of several, the first counts."""

    type: Literal["label_model"]
    labels: Annotated[list[_Name], Field(min_length=1, max_length=100)]
    passing_labels: Annotated[list[_Name], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _passing_are_labels(self) -> "LabelModel":
        if unknown := set(self.passing_labels) - set(self.labels):
            raise ValueError(f"passing_labels: {min(unknown)!r} is not one of the labels")
        return self


class Python(Part):
    """Code of the caller, which is always refused."""

    type: Literal["python"]
    name: _Name = "python"
    source: str = ""
    image_tag: str | None = None

    @model_validator(mode="after")
    def _is_not_run(self) -> "Python":
        raise ValueError("graders of type python are not run here; use string_check, text_similarity or a model")


Single: TypeAlias = StringCheck | TextSimilarity | ScoreModel | LabelModel | Python


def _by_name(given: Any) -> Any:
    """Put a single grader under its own name; OpenAI's clients may send it without."""
    single = isinstance(given, dict) and isinstance(given.get("type"), str) and "name" in given
    return {given["name"]: given} if single else given


class Multi(Part):
    """Several graders whose scores are combined by a formula over their names, like `0.3 * a + 0.7 * b`."""

    type: Literal["multi"]
    name: _Name
    graders: Annotated[
        dict[_Name, Annotated[Single, Field(discriminator="type")]],
        BeforeValidator(_by_name),
        Field(min_length=1, max_length=20),
    ]
    calculate_output: Annotated[Text, Field(min_length=1, max_length=1000)]
    pass_threshold: Finite | None = None

    @model_validator(mode="after")
    def _can_be_calculated(self) -> "Multi":
        check_formula(self.calculate_output, self.graders)
        return self


Grader: TypeAlias = Single | Multi
GRADER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])


def models_of(grader: Grader) -> list[str]:
    """Return the models that a grader asks."""
    if isinstance(grader, Multi):
        return [model for one in grader.graders.values() for model in models_of(one)]
    return [grader.model] if isinstance(grader, Judge) else []
