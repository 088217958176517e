"""Stretches: summaries of a metric over many steps, from which a long curve is read instead of its metrics."""

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Stretch(Row):
    """A summary of one metric over the `size` steps from `start`, a multiple of `size`. Only long runs have any.

    `told` is the number of points, of which `gaps` are not finite; the others have this `mean`. The lowest, the highest
    and the first gap are kept as points of the curve. The row is written once its last step is past, and again when a
    resumed run repeats one of its steps.
    """

    __tablename__ = "stretches"
    __table_args__ = (CheckConstraint("split IN ('train','eval')", name="split"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    told: Mapped[int]
    gaps: Mapped[int]
    mean: Mapped[float | None]
    low: Mapped[float | None]
    low_step: Mapped[int | None]
    low_at: Mapped[float | None]
    low_tokens: Mapped[float | None]
    high: Mapped[float | None]
    high_step: Mapped[int | None]
    high_at: Mapped[float | None]
    high_tokens: Mapped[float | None]
    gap_step: Mapped[int | None]
    gap_at: Mapped[float | None]
    gap_tokens: Mapped[float | None]
