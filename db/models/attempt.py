"""Attempts: the claims of jobs, and how each ended."""

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Attempt(Row):
    """One claim of a job; `number` is the fence it was claimed under. `resume_step` is None for a fresh start.

    `waited_s` is how long the job had waited for its first attempt; later ones have none.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        Index(
            "ix_attempts_failed",
            "failure_class",
            "exit_code",
            postgresql_where=text("failure_class IS NOT NULL"),
            sqlite_where=text("failure_class IS NOT NULL"),
        ),
        Index(
            "ix_attempts_waited",
            "waited_s",
            postgresql_where=text("waited_s IS NOT NULL"),
            sqlite_where=text("waited_s IS NOT NULL"),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[float]
    waited_s: Mapped[float | None]
    ended_at: Mapped[float | None]
    outcome: Mapped[str | None]
    failure_class: Mapped[str | None]
    message: Mapped[str | None]
    resume_step: Mapped[int | None]
    exit_code: Mapped[int | None]
