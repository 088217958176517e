"""What the operator of the API may choose: `TRAINYARD_…` in the environment. `python -m api.settings` prints it."""

import secrets
import sys
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.private import write_private
from db.settings import StorageSettings, WebhookSettings, as_variables, read_secret
from db.traces import TraceSettings
from engine.rows.checker import MAX_LINE_BYTES

_CLONE = Path(__file__).resolve().parent.parent


class ApiSettings(BaseSettings):
    """Where the API listens and what it takes in."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", frozen=True, env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="Where the API listens; what it speaks is not encrypted.")
    port: int = Field(default=8642, ge=0, le=65_535, description="0: any free port.")
    max_upload_bytes: int = Field(default=64 * 2**30, ge=1, description="Of an uploaded file.")
    max_body_bytes: int = Field(default=2**20, ge=1024, description="Of a JSON body.")
    max_line_bytes: int = Field(default=MAX_LINE_BYTES, ge=64, description="Of one row of an uploaded file.")
    price_per_hour: float | None = Field(
        default=None, ge=0, description="Of a worker's machine; plans tell costs by it."
    )
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="Of price_per_hour.")
    power_w: float | None = Field(default=None, ge=0, description="What a worker's machine draws under load.")
    co2e_g_per_kwh: float | None = Field(default=None, ge=0, description="Of the electricity that it draws.")
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Of one key, counted by each API process; any number when left out.",
    )
    secure_cookie: bool = Field(default=False, description="Set it where browsers come through a TLS proxy.")
    page_dir: Path = Field(default=_CLONE / "dashboard" / "dist", description="Where the dashboard has been built.")
    examples_dir: Path = Field(default=_CLONE / "examples", description="Where the samples lie, if anywhere.")
    secret: SecretStr | None = Field(
        default=None, description="Keys are stored as HMACs under it. home/secret when left out."
    )


def key_secret(settings: ApiSettings, home: Path) -> bytes:
    """The secret under which keys are stored.

    Raises:
        ValueError: there is none yet, and `make_secret` makes one; or it is empty.
    """
    return read_secret(settings.secret, home)


def make_secret(settings: ApiSettings, home: Path) -> bytes:
    """The secret, made on the first start."""
    path = home / "secret"
    if settings.secret is None and not path.exists():
        write_private(path, secrets.token_hex(32), keep=True)
    return key_secret(settings, home)


if __name__ == "__main__":
    sys.stdout.write(as_variables(StorageSettings, WebhookSettings, TraceSettings, ApiSettings))
