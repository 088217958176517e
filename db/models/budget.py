"""Budgets: what a project, or one key of it, may use."""

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row

_AMOUNTS = ("worker_s", "money", "active_jobs", "storage_bytes")


class Budget(Row):
    """The most that its owner may use, null for as much as it likes. The first two are for each calendar month, in UTC."""

    __tablename__ = "budgets"
    __table_args__ = (
        CheckConstraint(" AND ".join(f"({name} IS NULL OR {name} >= 0)" for name in _AMOUNTS), name="amounts"),
    )

    owner_id: Mapped[str] = mapped_column(primary_key=True)
    """A project, or a key."""
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    worker_s: Mapped[float | None]
    money: Mapped[float | None]
    active_jobs: Mapped[int | None]
    """That wait or run."""
    storage_bytes: Mapped[int | None]
