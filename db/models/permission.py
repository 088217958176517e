"""Permissions: who else may use a checkpoint."""

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Permission(Row):
    """`project_id` may use the artifact, which is another project's, under its fine-tuned name."""

    __tablename__ = "permissions"
    __table_args__ = (UniqueConstraint("artifact_id", "project_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float]
