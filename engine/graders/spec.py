"""What graders are told, under OpenAI's names. `{{item.x}}` and `{{sample.output_text}}` stand for a row's values."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from engine.parts import Part, Text

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l", "cosine", "meteor"
]
_Name = Annotated[Text, Field(min_length=1, max_length=256)]
_Template = Annotated[Text, Field(max_length=100_000)]


class StringCheck(Part):
    """1 when input and reference compare as the operation says; like: the reference stands in the input."""

    type: Literal["string_check"]
    name: _Name
    input: _Template
    reference: _Template
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(Part):
    """How alike input and reference are, from 0 to 1; it passes from `pass_threshold` on."""

    type: Literal["text_similarity"]
    name: _Name
    input: _Template
    reference: _Template
    evaluation_metric: Metric
    pass_threshold: float | None = None


class ScoreModel(Part):
    """A model gives a score."""

    type: Literal["score_model"]
    name: _Name
    model: _Name
    input: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)]
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    pass_threshold: float | None = None
    sampling_params: dict[str, Any] | None = None


class LabelModel(Part):
    """A model chooses a label."""

    type: Literal["label_model"]
    name: _Name
    model: _Name
    input: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=100)]
    labels: Annotated[list[_Name], Field(min_length=1, max_length=100)]
    passing_labels: Annotated[list[_Name], Field(min_length=1, max_length=100)]


Grader: TypeAlias = StringCheck | TextSimilarity | ScoreModel | LabelModel
GRADER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])
RUNNABLE = (StringCheck, TextSimilarity)
"""The others ask a model, and none is asked here."""
