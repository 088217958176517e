"""The outbox: messages to the broker, written in the transaction of what they announce."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Outbox(Row):
    """A message about a job, due at `due_at`. A job has at most one unsent message."""

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
        Index(
            "ix_outbox_sent",
            "sent_at",
            postgresql_where=text("sent_at IS NOT NULL"),
            sqlite_where=text("sent_at IS NOT NULL"),
        ),
    )

    # SQLite assigns row numbers only to an INTEGER PRIMARY KEY.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    topic: Mapped[str]
    created_at: Mapped[float]
    due_at: Mapped[float]
    sent_at: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
