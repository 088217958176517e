"""Permissions: which other projects may use an artifact."""

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Permission(Row):
    """The permission of a project to use an artifact of another project by its fine-tuned name."""

    __tablename__ = "permissions"
    __table_args__ = (UniqueConstraint("artifact_id", "project_id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    created_at: Mapped[float]
