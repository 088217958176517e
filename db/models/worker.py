"""Workers: each place where one job runs at a time, as it tells of itself."""

from typing import Any

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Worker(Row):
    """A worker by the name that its leases are held under. It tells of itself every `heartbeat_s`."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint("heartbeat_s > 0 AND memory_bytes >= 0", name="amounts"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    memory_bytes: Mapped[int]
    heartbeat_s: Mapped[float]
    started_at: Mapped[float]
    heartbeat_at: Mapped[float]
    stopped_at: Mapped[float | None]
    labels: Mapped[dict[str, Any] | None]
    """What jobs may ask for by name."""
    gpus: Mapped[int | None]
    offers_to: Mapped[str | None]
    """The job that it waits for together with others, until `offers_until` (db.gangs)."""
    offers_until: Mapped[float | None]
