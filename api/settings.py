"""Settings of the API process, read from `TRAINYARD_…` environment variables. `python -m api.settings` prints them all."""

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
    """The address of the API, the limits of its requests, and the prices that plans and reports use."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", frozen=True, env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="The address that the API listens on, without encryption.")
    port: int = Field(
        default=8642, ge=0, le=65_535, description="The port that the API listens on; 0 for any free port."
    )
    max_upload_bytes: int = Field(default=64 * 2**30, ge=1, description="The largest uploaded file, in bytes.")
    max_body_bytes: int = Field(default=2**20, ge=1024, description="The largest JSON request body, in bytes.")
    max_line_bytes: int = Field(
        default=MAX_LINE_BYTES, ge=64, description="The longest row of an uploaded file, in bytes."
    )
    price_per_hour: float | None = Field(
        default=None, ge=0, description="The price of one hour of a worker's machine, from which costs are computed."
    )
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="The currency of the price per hour.")
    power_w: float | None = Field(
        default=None, ge=0, description="The power that a worker's machine draws under load, in watts."
    )
    co2e_g_per_kwh: float | None = Field(
        default=None,
        ge=0,
        description="The emissions of the electricity that workers use, in grams of CO2 equivalent per kWh.",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="The most requests of one key per minute, counted by each API process; unlimited by default.",
    )
    secure_cookie: bool = Field(
        default=False,
        description="Whether browsers reach the API through a TLS proxy, so that the session cookie is sent over TLS only.",
    )
    page_dir: Path = Field(default=_CLONE / "dashboard" / "dist", description="The folder of the built dashboard.")
    examples_dir: Path = Field(
        default=_CLONE / "examples", description="The folder of the sample data, which may be missing."
    )
    secret: SecretStr | None = Field(
        default=None,
        description="The secret under which API keys are stored as HMACs; default: the content of home/secret.",
    )


def key_secret(settings: ApiSettings, home: Path) -> bytes:
    """Return the secret under which keys are stored.

    Raises:
        ValueError: there is none yet, which `make_secret` would make, or it is empty.
    """
    return read_secret(settings.secret, home)


def make_secret(settings: ApiSettings, home: Path) -> bytes:
    """Return the secret, which is made on the first start."""
    path = home / "secret"
    if settings.secret is None and not path.exists():
        write_private(path, secrets.token_hex(32), keep=True)
    return key_secret(settings, home)


if __name__ == "__main__":
    sys.stdout.write(as_variables(StorageSettings, WebhookSettings, TraceSettings, ApiSettings))
