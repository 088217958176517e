"""Events: what happened to a job, in order."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Event(Row):
    """An event of a job. `seq` is taken from `jobs.last_seq`; `attempt` is None for an event of the service itself."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("level IN ('info','warn','error')", name="level"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float]
    attempt: Mapped[int | None]
    type: Mapped[str]
    level: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]
