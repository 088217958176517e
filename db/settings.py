"""The operator's settings for where data is stored and which webhook receivers may be reached."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.blobs import LOW_SPACE_BYTES, BlobStore
from db.receivers import Receivers, read_networks


class StorageSettings(BaseSettings):
    """Storage settings, read from the environment variables `TRAINYARD_...`. Folders are created on the first write."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    home: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/trainyard",
        description="Folder of everything that the service stores.",
    )
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['home'] / 'trainyard.db'}",
        description="URL of the database: sqlite:///path or postgresql+psycopg://user:password@host/name.",
    )
    blobs_dir: Path = Field(
        default_factory=lambda data: data["home"] / "blobs",
        description="Folder of the stored files, which are named by their SHA-256.",
    )
    desk_socket: Path = Field(
        default_factory=lambda data: data["home"] / "desk.sock",
        description="Unix socket of the desk (workers.desk), which answers what cannot wait in the queue.",
    )
    low_space_bytes: int = Field(
        default=LOW_SPACE_BYTES,
        ge=0,
        description="Free disk space, in bytes, below which uploads are refused.",
    )
    keep_blobs_s: float = Field(
        default=3600.0,
        ge=60,
        description="Seconds to keep unreferenced stored files; must be equal for the API, workers and reaper.",
    )
    blobs: str | None = Field(
        default=None,
        description="Bucket for stored files, s3://bucket/prefix; blobs_dir then holds only files in transit.",
    )
    s3_endpoint: str | None = Field(
        default=None, description="URL of an S3-compatible store other than Amazon S3, such as http://minio:9000."
    )
    s3_region: str = Field(default="us-east-1", description="Region of the S3 bucket.")
    s3_access_key_id: str | None = Field(default=None, description="Access key ID for the S3 bucket.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="Secret access key for the S3 bucket.")

    def open_blobs(self, low_space_bytes: int | None = None) -> BlobStore:
        """Open the blob store, which keeps `low_space_bytes` of the local disk free (by default, the setting's)."""
        reserve = self.low_space_bytes if low_space_bytes is None else low_space_bytes
        if self.blobs is None:
            return BlobStore(self.blobs_dir, reserve)
        from db.bucket import open_bucket  # most services have no bucket, and need not load its client

        secret = self.s3_secret_access_key.get_secret_value() if self.s3_secret_access_key else None
        return open_bucket(
            self.blobs, self.blobs_dir, reserve, self.keep_blobs_s / 2,
            endpoint=self.s3_endpoint, region=self.s3_region,
            key_id=self.s3_access_key_id, secret=secret,
        )  # fmt: skip


class WebhookSettings(BaseSettings):
    """Which webhook receivers may be reached, and how long to wait before a retry."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    webhook_networks: str = Field(
        default="",
        description="Networks of private addresses that webhooks may reach, on any port: 10.1.0.0/16,127.0.0.0/8.",
    )
    webhook_pause_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds before a failed webhook delivery is retried; tripled with each failure.",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="Secret from which the webhooks' signing secrets are derived; home/secret when unset.",
    )

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        read_networks(value)
        return value

    @property
    def receivers(self) -> Receivers:
        return Receivers(read_networks(self.webhook_networks))


def as_variables(*classes: type[BaseSettings]) -> str:
    """Render the settings of these classes as an environment file: each commented out, below its description."""
    fields = {name: field for settings in classes for name, field in settings.model_fields.items()}
    # model_construct validates nothing, so it reads no environment variables.
    defaults = {name: value for settings in classes for name, value in settings.model_construct().model_dump().items()}
    lines = [
        f"# {field.description}\n#TRAINYARD_{name.upper()}={_as_text(defaults[name])}" for name, field in fields.items()
    ]
    return "\n\n".join(lines) + "\n"


def _as_text(value: object) -> str:
    """Return a value as an environment variable holds it; empty if there is none."""
    if value is None or value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_secret(given: SecretStr | None, home: Path) -> bytes:
    """Return the service's secret, under which keys are hashed and from which webhooks' secrets are derived.

    Raises:
        ValueError: there is no secret yet, or it is empty.
    """
    if given is not None:
        return _not_empty(given.get_secret_value().encode(), "TRAINYARD_SECRET")
    path = home / "secret"
    if not path.exists():
        raise ValueError(f"no secret at {path}: run `python -m api.bootstrap` once, or set TRAINYARD_SECRET")
    return _not_empty(path.read_bytes().strip(), str(path))


def _not_empty(secret: bytes, source: str) -> bytes:
    if not secret:
        raise ValueError(f"{source} is empty: restore the secret with which the keys were created")
    return secret
