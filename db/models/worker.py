"""Workers: each runs one job at a time, and reports itself."""

from typing import Any

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Worker(Row):
    """A worker, by the name under which it holds leases. It sends a heartbeat every `heartbeat_s`."""

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
    """The labels that jobs may require."""
    gpus: Mapped[int | None]
    offers_to: Mapped[str | None]
    """The job for which it is waiting together with other workers, until `offers_until` (db.gangs)."""
    offers_until: Mapped[float | None]
