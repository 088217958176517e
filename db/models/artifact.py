"""Artifacts: models, adapters and checkpoints, with their lineage."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Artifact(Row):
    """An immutable set of files. Models and adapters have a name and a version, checkpoints a job and a step.

    `digest` is the SHA-256 of the lines `<sha256>  <path>`, sorted by path, which is the output of `sha256sum` for the
    files. `licence` and `limits` are None if unknown, and `job_id` for an import. The row of a deleted artifact is kept
    for lineage.
    """

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("kind IN ('model','adapter','checkpoint')", name="kind"),
        CheckConstraint("layout IN ('model','adapter')", name="layout"),
        CheckConstraint("(name IS NULL) = (version IS NULL)", name="version"),
        CheckConstraint("size_bytes >= 0", name="size"),
        UniqueConstraint("project_id", "name", "version"),
        UniqueConstraint("job_id", "kind", "step"),
        Index(None, "project_id", "id"),
        Index(
            "ix_artifacts_base",
            "base_artifact_id",
            postgresql_where=text("base_artifact_id IS NOT NULL"),
            sqlite_where=text("base_artifact_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[str]
    layout: Mapped[str]
    name: Mapped[str | None]
    version: Mapped[int | None]
    step: Mapped[int]
    base_artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    metrics: Mapped[dict[str, Any]]
    lineage: Mapped[dict[str, Any]]
    licence: Mapped[str | None]
    limits: Mapped[dict[str, Any] | None]
    digest: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]
