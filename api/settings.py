"""What the operator of the API may choose: `TRAINYARD_…` in the environment."""

import os
import secrets
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.rows.checker import MAX_LINE_BYTES


class ApiSettings(BaseSettings):
    """Where the API listens and what it takes in."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8642, ge=0, le=65_535)
    max_upload_bytes: int = Field(default=64 * 2**30, ge=1)
    max_body_bytes: int = Field(default=2**20, ge=1024, description="Of a JSON body.")
    max_line_bytes: int = Field(default=MAX_LINE_BYTES, ge=64, description="Of one row of an uploaded file.")
    secret: SecretStr | None = Field(
        default=None, description="Keys are stored as HMACs under it. home/secret when left out."
    )


def key_secret(settings: ApiSettings, home: Path) -> bytes:
    """The secret under which keys are stored.

    Raises:
        ValueError: there is none yet; `make_secret` makes one.
    """
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = home / "secret"
    if not path.exists():
        raise ValueError(f"no secret at {path}: run `python -m api.bootstrap` once, or set TRAINYARD_SECRET")
    return path.read_bytes().strip()


def make_secret(settings: ApiSettings, home: Path) -> bytes:
    """The secret, made on the first start."""
    path = home / "secret"
    if settings.secret is None and not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return key_secret(settings, home)
