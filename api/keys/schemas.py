"""API keys as the API reads and shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.answers import Object
from api.numbers import WHOLE
from db.models import ApiKey

_Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20][^\x00-\x1f]*$", max_length=100)]
"""One line of text that does not begin with a space."""
_YEARS_10_S = 10 * 365 * 24 * 3600


class KeyRequest(BaseModel):
    """A key to make, for the caller's project. Operators' keys are made with `python -m api.keys` only."""

    model_config = ConfigDict(extra="forbid")

    name: _Name = Field(description="The name of the person or program that the key is for.")
    scope: Literal["read", "write", "admin"] = Field(
        description="What the key may do; each scope includes those before it."
    )
    expires_after_s: Annotated[int, Field(ge=60, le=_YEARS_10_S, strict=True), WHOLE] | None = Field(
        default=None, description="The number of seconds after which the key expires; null for a key that does not."
    )


class KeyObject(Object):
    """An API key, of whose token only the `prefix` is kept. `last_used_at` is accurate to a minute."""

    object: Literal["key"] = "key"
    name: str
    prefix: str
    scope: Literal["read", "write", "admin", "operator"]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None


class NewKeyObject(KeyObject):
    """A new key with its `token`, which is not stored: only this response contains it."""

    token: str


def key_object(key: ApiKey) -> KeyObject:
    """Return a key as it is shown."""
    return KeyObject.model_validate(key, from_attributes=True)
