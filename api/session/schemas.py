"""A browser's session as the API shows it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.keys.schemas import KeyObject
from api.me import ProjectObject


class SignIn(BaseModel):
    """What opens a session."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200, description="An API key, `ty-…`.")


class SessionObject(BaseModel):
    """Who is signed in; every field is null when nobody is. Requests that change something carry `csrf_token`."""

    object: Literal["session"] = "session"
    csrf_token: str | None = None
    expires_at: int | None = None
    key: KeyObject | None = None
    project: ProjectObject | None = None
