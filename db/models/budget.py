"""Budgets: limits on what a project, or one of its keys, may use."""

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row

_AMOUNTS = ("worker_s", "money", "active_jobs", "storage_bytes")


class Budget(Row):
    """The limits of an owner; NULL is no limit. Those of `worker_s` and `money` hold for a calendar month, in UTC."""

    __tablename__ = "budgets"
    __table_args__ = (
        CheckConstraint(" AND ".join(f"({name} IS NULL OR {name} >= 0)" for name in _AMOUNTS), name="amounts"),
    )

    owner_id: Mapped[str] = mapped_column(primary_key=True)
    """The id of a project or of a key."""
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    worker_s: Mapped[float | None]
    money: Mapped[float | None]
    active_jobs: Mapped[int | None]
    """The number of unfinished jobs."""
    storage_bytes: Mapped[int | None]
