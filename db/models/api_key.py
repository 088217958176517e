"""Keys that open a project over HTTP."""

from sqlalchemy import ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class ApiKey(Row):
    """A key. The token itself is nowhere: only its first characters and its HMAC-SHA256.

    `admin` is for who runs the service: it opens what concerns all projects.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    prefix: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(unique=True)
    admin: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
