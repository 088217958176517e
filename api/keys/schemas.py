"""API keys as the API takes and shows them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.answers import Object
from api.numbers import WHOLE
from db.models import ApiKey

_Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20][^\x00-\x1f]*$", max_length=100)]
"""One line that begins with no space."""
_YEARS_10_S = 10 * 365 * 24 * 3600


class KeyRequest(BaseModel):
    """What a key is made from. It never reaches beyond the project; an operator's key is made on the machine itself."""

    model_config = ConfigDict(extra="forbid")

    name: _Name = Field(description="Who or what the key is for.")
    scope: Literal["read", "write", "admin"] = Field(description="Each holds those before it.")
    expires_after_s: Annotated[int, Field(ge=60, le=_YEARS_10_S, strict=True), WHOLE] | None = Field(
        default=None, description="Null: it works until it is revoked."
    )


class KeyObject(Object):
    """An API key. All that is shown of it later is its beginning. `last_used_at` is right to a minute."""

    object: Literal["key"] = "key"
    name: str
    prefix: str
    scope: Literal["read", "write", "admin", "operator"]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None


class NewKeyObject(KeyObject):
    """A key that was just made. `token` is kept nowhere: this answer is the only one that holds it."""

    token: str


def key_object(key: ApiKey) -> KeyObject:
    """The key as it is shown."""
    return KeyObject.model_validate(key, from_attributes=True)
