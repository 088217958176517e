"""Gangs: the workers that carry out an attempt together with the worker that holds the job."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class GangMember(Row):
    """One of the `num_nodes` workers of an attempt, except the first, which holds the job and listens on `master_addr`.

    A member has a lease of its own. `failure` is how its engine failed, if it did.
    """

    __tablename__ = "gang_members"
    __table_args__ = (
        CheckConstraint("node_rank > 0 AND node_rank < num_nodes", name="ranks"),
        Index(
            "ix_gang_members_unended",
            "worker",
            "job_id",
            "fence",
            postgresql_where=text("ended_at IS NULL"),
            sqlite_where=text("ended_at IS NULL"),
        ),
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
