"""The audit log: who did what to which object."""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Audit(Row):
    """An act of a key's holder, entered in the transaction that it took place in. Never changed.

    Without a key and a request it was an operator's, on the database itself.
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
