"""Where the data lies: the operator's choices."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.blobs import LOW_SPACE_BYTES, BlobStore


class StorageSettings(BaseSettings):
    """Read from `TRAINYARD_...` in the environment. The folder is made by whoever writes to it first."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_", env_ignore_empty=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".local/share/trainyard")
    database_url: str = Field(default_factory=lambda data: f"sqlite:///{data['home'] / 'trainyard.db'}")
    blobs_dir: Path = Field(default_factory=lambda data: data["home"] / "blobs")
    desk_socket: Path = Field(
        default_factory=lambda data: data["home"] / "desk.sock",
        description="Where the API asks what cannot wait in the queue (workers.desk).",
    )
    low_space_bytes: int = Field(default=LOW_SPACE_BYTES, ge=0)
    blobs: str | None = Field(
        default=None, description="s3://bucket/prefix: blobs lie there, and in blobs_dir only on their way. Else there."
    )
    s3_endpoint: str | None = Field(default=None, description="Of a store that is not Amazon's: http://minio:9000.")
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None

    def open_blobs(self, low_space_bytes: int | None = None) -> BlobStore:
        """The blob store; it keeps `low_space_bytes` of the local disk free, by default those of the settings."""
        reserve = self.low_space_bytes if low_space_bytes is None else low_space_bytes
        if self.blobs is None:
            return BlobStore(self.blobs_dir, reserve)
        from db.bucket import open_bucket  # most have no bucket, and need not load its client

        secret = self.s3_secret_access_key.get_secret_value() if self.s3_secret_access_key else None
        return open_bucket(
            self.blobs, self.blobs_dir, reserve,
            endpoint=self.s3_endpoint, region=self.s3_region,
            key_id=self.s3_access_key_id, secret=secret,
        )  # fmt: skip
