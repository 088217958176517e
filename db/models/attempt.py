"""Attempts: every claim of a job and how it ended."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Attempt(Row):
    """One claim of a job; `number` is the fence it was claimed under. `resume_step` is None for a fresh start."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    outcome: Mapped[str | None]
    failure_class: Mapped[str | None]
    message: Mapped[str | None]
    resume_step: Mapped[int | None]
    exit_code: Mapped[int | None]
