"""Where the data lies: the operator's choices."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.blobs import LOW_SPACE_BYTES, BlobStore
from db.receivers import Receivers, read_networks


class StorageSettings(BaseSettings):
    """Read from `TRAINYARD_...` in the environment. The folder is made by whoever writes to it first."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    home: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/trainyard", description="Everything that the service keeps."
    )
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['home'] / 'trainyard.db'}",
        description="SQLite, or postgresql+psycopg://user:password@host/name.",
    )
    blobs_dir: Path = Field(
        default_factory=lambda data: data["home"] / "blobs", description="Stored files, by their sha256."
    )
    desk_socket: Path = Field(
        default_factory=lambda data: data["home"] / "desk.sock",
        description="Where the API asks what cannot wait in the queue (workers.desk).",
    )
    low_space_bytes: int = Field(
        default=LOW_SPACE_BYTES, ge=0, description="Uploads are refused where less of the disk is free."
    )
    keep_blobs_s: float = Field(
        default=3600.0,
        ge=60,
        description="Stored bytes that nothing names any more are kept this long. The same for the API, the workers and the reaper.",
    )
    blobs: str | None = Field(
        default=None, description="s3://bucket/prefix: blobs lie there, and in blobs_dir only on their way. Else there."
    )
    s3_endpoint: str | None = Field(default=None, description="Of a store that is not Amazon's: http://minio:9000.")
    s3_region: str = Field(default="us-east-1", description="Of the bucket.")
    s3_access_key_id: str | None = Field(default=None, description="Who asks the bucket.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="What it is asked with.")

    def open_blobs(self, low_space_bytes: int | None = None) -> BlobStore:
        """The blob store; it keeps `low_space_bytes` of the local disk free, by default those of the settings."""
        reserve = self.low_space_bytes if low_space_bytes is None else low_space_bytes
        if self.blobs is None:
            return BlobStore(self.blobs_dir, reserve)
        from db.bucket import open_bucket  # most have no bucket, and need not load its client

        secret = self.s3_secret_access_key.get_secret_value() if self.s3_secret_access_key else None
        return open_bucket(
            self.blobs, self.blobs_dir, reserve, self.keep_blobs_s / 2,
            endpoint=self.s3_endpoint, region=self.s3_region,
            key_id=self.s3_access_key_id, secret=secret,
        )  # fmt: skip


class WebhookSettings(BaseSettings):
    """Which receivers of webhooks may be reached, and how patient the sender is with them."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    webhook_networks: str = Field(
        default="", description="Networks inside your own that may be reached, on any port: 10.1.0.0/16,127.0.0.0/8."
    )
    webhook_pause_s: float = Field(
        default=5.0, gt=0, description="Before a failed delivery is tried again; tripled with each failure."
    )
    secret: SecretStr | None = Field(
        default=None, description="What signing secrets follow from. home/secret when left out."
    )

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, told: str) -> str:
        read_networks(told)
        return told

    @property
    def receivers(self) -> Receivers:
        return Receivers(read_networks(self.webhook_networks))


def as_variables(*read: type[BaseSettings]) -> str:
    """All settings of these classes as variables of a file, each a comment with its default, below what it means."""
    fields = {name: field for settings in read for name, field in settings.model_fields.items()}
    # Without validation no variable of the environment is looked at.
    defaults = {name: value for settings in read for name, value in settings.model_construct().model_dump().items()}
    lines = [
        f"# {field.description}\n#TRAINYARD_{name.upper()}={_written(defaults[name])}" for name, field in fields.items()
    ]
    return "\n\n".join(lines) + "\n"


def _written(value: object) -> str:
    """As a variable has it; empty where the default is none."""
    if value is None or value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_secret(given: SecretStr | None, home: Path) -> bytes:
    """The service's secret: under it keys are stored, and from it the secrets of webhooks follow.

    Raises:
        ValueError: there is none yet; or it is empty.
    """
    if given is not None:
        return _filled(given.get_secret_value().encode(), "TRAINYARD_SECRET")
    path = home / "secret"
    if not path.exists():
        raise ValueError(f"no secret at {path}: run `python -m api.bootstrap` once, or set TRAINYARD_SECRET")
    return _filled(path.read_bytes().strip(), str(path))


def _filled(secret: bytes, source: str) -> bytes:
    if not secret:
        raise ValueError(f"{source} is empty: put the secret back under which the keys were made")
    return secret
