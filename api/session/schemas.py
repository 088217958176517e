"""A browser's session as the API shows it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.keys.schemas import KeyObject
from api.me import ProjectObject


class SignIn(BaseModel):
    """The request that opens a session."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200, description="An API key, which begins with `ty-`.")


class SessionObject(BaseModel):
    """A session; every field is null without one. Requests that change something must send `csrf_token`."""

    object: Literal["session"] = "session"
    csrf_token: str | None = None
    expires_at: int | None = None
    key: KeyObject | None = None
    project: ProjectObject | None = None
