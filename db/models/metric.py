"""Metrics: the values of each step of a run."""

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Metric(Row):
    """The values of one step of one split. A step repeated after a resume replaces its row and gets a new `seq`."""

    __tablename__ = "metrics"
    __table_args__ = (
        CheckConstraint("split IN ('train','eval')", name="split"),
        Index(None, "job_id", "seq", unique=True),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int]
    attempt: Mapped[int]
    created_at: Mapped[float]
    values: Mapped[dict[str, float | None]]
