"""Prompts that a model answers while it is trained."""

from typing import Annotated

from pydantic import Field, StringConstraints

from engine.parts.part import Part, Text

_Prompt = Annotated[Text, StringConstraints(min_length=1, max_length=8192)]


class Samples(Part):
    """The same prompts at every evaluation: as questions of a user, or as beginnings of texts in pre-training."""

    prompts: tuple[_Prompt, ...] = Field(min_length=1, max_length=16)
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    temperature: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Each prompt is answered greedily and sampled at this; 0: greedily alone.",
    )
