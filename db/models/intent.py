"""Intents: the creates that clients have requested, so that a repeated request creates nothing new."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Intent(Row):
    """One create. `name` is the client's Idempotency-Key, or the hash of the body if it sent none.

    `answer` is the created object as JSON, or None while the create is in progress or if it was refused. `by_retry`
    says that a retry arrived first, before the request that it repeats.
    """

    __tablename__ = "intents"
    __table_args__ = (Index(None, "created_at"),)

    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    by_retry: Mapped[bool] = mapped_column(default=False)
    answer: Mapped[str | None]
    created_at: Mapped[float]
