"""Samples: prompts that the model answers during training."""

from typing import Annotated

from pydantic import Field, StringConstraints

from engine.parts.part import Part, Text

_Prompt = Annotated[Text, StringConstraints(min_length=1, max_length=8192)]


class Samples(Part):
    """Prompts that are answered at every evaluation: as user messages, or in pre-training as beginnings of texts."""

    prompts: tuple[_Prompt, ...] = Field(min_length=1, max_length=16)
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    temperature: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Each prompt is answered greedily, and by sampling at this temperature; 0: only greedily.",
    )
