"""Intents: what a client asked to be made, so that asking again makes no second one."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Intent(Row):
    """One create. `name` is the client's Idempotency-Key, or the hash of the body where it sent none.

    `answer` is what was made, as JSON; None while that is still being done, or when it was refused.
    `by_retry`: a retry came first, and the request that it repeats is still on its way.
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
