"""Jobs: their specs, their states, and the workers that hold them."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Job(Row):
    """One job.

    `fence` is the number of its claims: only the holder of the newest claim can write.
    `last_seq` is the newest number of an event or metric, which is the cursor of the job's stream.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued','preparing','running','pausing','paused','succeeded','failed','cancelled')",
            name="state",
        ),
        CheckConstraint("(lease_expires_at IS NOT NULL) = (state IN ('preparing','running','pausing'))", name="lease"),
        CheckConstraint("(finished_at IS NOT NULL) = (state IN ('succeeded','failed','cancelled'))", name="finished"),
        CheckConstraint("fence >= 0 AND failures >= 0 AND dispatches >= 0 AND last_seq >= 0", name="counts"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "kind", "id"),
        Index(None, "project_id", "state", "id"),
        Index(
            "ix_jobs_queue",
            "priority",
            "id",
            "state",  # constant here, but SQLite would otherwise look it up in the table
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_asking",
            "nodes",
            "requires",
            postgresql_where=text("state = 'queued' AND (nodes > 1 OR requires <> '')"),
            sqlite_where=text("state = 'queued' AND (nodes > 1 OR requires <> '')"),
        ),
        Index(
            "ix_jobs_waiting",
            "project_id",
            "priority",
            "id",
            "state",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "ix_jobs_lease",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
            sqlite_where=text("lease_expires_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_plan",
            "plan_id",
            postgresql_where=text("plan_id IS NOT NULL"),
            sqlite_where=text("plan_id IS NOT NULL"),
        ),
        Index(
            "ix_jobs_base",
            "base_artifact_id",
            postgresql_where=text("base_artifact_id IS NOT NULL"),
            sqlite_where=text("base_artifact_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str]
    priority: Mapped[int]
    nodes: Mapped[int] = mapped_column(default=1, server_default="1")
    """The least number of workers that it needs."""
    requires: Mapped[str] = mapped_column(default="", server_default="")
    """The labels, GPUs and memory that its workers must have (db.placement)."""
    plan_id: Mapped[str | None] = mapped_column(ForeignKey("plans.id"))
    base_artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id", use_alter=True))
    created_at: Mapped[float]
    queued_at: Mapped[float] = mapped_column(server_default="0")
    """When it last began to wait for a worker."""
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    fence: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    heartbeat_at: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]
    not_before: Mapped[float | None]
    traceparent: Mapped[str | None]
    """The W3C trace context of the request that created it, if traces are on."""
    key_id: Mapped[str | None]
    """The key that created it, to whose budget it counts."""
    preempted_by: Mapped[str | None]
    """The queued job of higher priority for which this held job is to be preempted."""
    failures: Mapped[int] = mapped_column(default=0)
    dispatched_at: Mapped[float | None]
    dispatches: Mapped[int] = mapped_column(default=0)
    last_seq: Mapped[int] = mapped_column(default=0)
    batch: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of the newest batch of records from its current attempt."""
    step: Mapped[int | None]
    total_steps: Mapped[int | None]
    progress: Mapped[dict[str, Any] | None]
    failure_class: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_mend: Mapped[str | None]
    result: Mapped[dict[str, Any] | None]
