"""Where the data lies: the operator's choices."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.blobs import LOW_SPACE_BYTES


class StorageSettings(BaseSettings):
    """Read from `TRAINYARD_...` in the environment. The folder is made by whoever writes to it first."""

    model_config = SettingsConfigDict(env_prefix="TRAINYARD_")

    home: Path = Field(default_factory=lambda: Path.home() / ".local/share/trainyard")
    database_url: str = Field(default_factory=lambda data: f"sqlite:///{data['home'] / 'trainyard.db'}")
    blobs_dir: Path = Field(default_factory=lambda data: data["home"] / "blobs")
    desk_socket: Path = Field(
        default_factory=lambda data: data["home"] / "desk.sock",
        description="Where the API asks what cannot wait in the queue (workers.desk).",
    )
    low_space_bytes: int = Field(default=LOW_SPACE_BYTES, ge=0)
