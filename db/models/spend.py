"""Spend: used worker time, by day."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Spend(Row):
    """The worker time that attempts used on one day, and the number of attempts that ended on it.

    `day` counts from 1 January 1970, in UTC. `key_id` is empty for jobs from before it was recorded.
    """

    __tablename__ = "spend"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    worker_s: Mapped[float]
    attempts: Mapped[int]
