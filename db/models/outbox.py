"""The outbox: messages that have to reach the broker, written in the transaction that calls for them."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Outbox(Row):
    """A message about a job. It is due at `due_at`; a job has at most one that is not sent."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "uq_outbox_unsent",
            "job_id",
            unique=True,
            postgresql_where=text("sent_at IS NULL"),
            sqlite_where=text("sent_at IS NULL"),
        ),
        Index(
            "ix_outbox_due",
            "due_at",
            postgresql_where=text("sent_at IS NULL"),
            sqlite_where=text("sent_at IS NULL"),
        ),
    )

    # SQLite numbers rows by itself for INTEGER PRIMARY KEY alone.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    topic: Mapped[str]
    created_at: Mapped[float]
    due_at: Mapped[float]
    sent_at: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
