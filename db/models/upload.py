"""Uploads: files that arrive in parts."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Upload(Row):
    """An upload. Once it is completed, `file_id` is the file that was assembled from its parts."""

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint("state IN ('pending','completed','cancelled')", name="state"),
        CheckConstraint("(file_id IS NOT NULL) = (state = 'completed')", name="file"),
        CheckConstraint("size_bytes >= 0", name="size"),
        Index(
            "ix_uploads_pending",
            "project_id",
            "expires_at",
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    filename: Mapped[str]
    purpose: Mapped[str]
    size_bytes: Mapped[int]
    file_expires_after_s: Mapped[int | None]
    state: Mapped[str]
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    created_at: Mapped[float]
    expires_at: Mapped[float]
