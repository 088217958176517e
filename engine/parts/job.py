"""The fields of every kind of job: a name, a seed, resources, metadata."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from engine.parts.part import Name, Part, Text
from engine.parts.resources import Resources

Metadata = Annotated[
    dict[Annotated[Text, StringConstraints(max_length=64)], Annotated[Text, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class JobPart(Part):
    """The fields of every kind of job."""

    PURPOSE: ClassVar[str]
    """The purpose of the files that it reads."""
    FORMATS: ClassVar[tuple[str, ...]]
    """The row formats that it takes."""

    kind: Any
    model: Any
    """Each kind narrows both types: to its name, and to what it may start from."""
    suffix: Name | None = Field(
        default=None, description="Names what the job makes: suffix/1, suffix/2, ... The job's id when left out."
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    resources: Resources = Resources()
    metadata: Metadata = Field(default={})

    def takes(self) -> tuple[str, ...]:
        """Return the formats that the files may have."""
        return self.FORMATS

    def starts_from_adapter(self) -> bool:
        """Whether `model` may name an adapter."""
        return True
