"""Job kinds as the API shows them."""

from typing import Any, Literal

from pydantic import Field

from api.answers import Object


class KindObject(Object):
    """A kind of job; `schema` is the JSON Schema of its spec."""

    object: Literal["kind"] = "kind"
    title: str
    description: str
    spec_schema: dict[str, Any] = Field(serialization_alias="schema")
