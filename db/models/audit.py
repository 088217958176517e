"""The audit log: which key did what to which object."""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Audit(Row):
    """An action of a key's holder, recorded in the transaction of the action, and never changed.

    An entry without a key and a request is an action of the operator, directly in the database.
    """

    __tablename__ = "audit"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    request_id: Mapped[str | None]
    action: Mapped[str]
    object_id: Mapped[str]
    details: Mapped[dict[str, Any] | None]
