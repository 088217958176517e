"""Gangs: the workers that carry out an attempt together with the one that holds the job."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class GangMember(Row):
    """One of `num_nodes` workers of an attempt, all but the first, which holds the job itself and is met at `master_addr`.

    Its lease is its own; `failure` is how its engine ended, where that was not well.
    """

    __tablename__ = "gang_members"
    __table_args__ = (
        CheckConstraint("node_rank > 0 AND node_rank < num_nodes", name="ranks"),
        Index(None, "worker"),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True)
    node_rank: Mapped[int] = mapped_column(primary_key=True)
    num_nodes: Mapped[int]
    worker: Mapped[str]
    master_addr: Mapped[str]
    master_port: Mapped[int]
    lease_expires_at: Mapped[float]
    ended_at: Mapped[float | None]
    failure: Mapped[dict[str, Any] | None]
