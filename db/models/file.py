"""Files: uploaded data, and files that jobs have left."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class File(Row):
    """A data file, whose bytes are the blob `sha256`. The row of a deleted file is kept for lineage."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("size_bytes >= 0", name="size"),
        CheckConstraint("row_count >= 0", name="rows"),
        CheckConstraint("length(sha256) = 64", name="sha256"),
        Index(None, "project_id", "id"),
        Index(None, "sha256"),
        Index(
            "ix_files_expiry",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND deleted_at IS NULL"),
            sqlite_where=text("expires_at IS NOT NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    filename: Mapped[str]
    purpose: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    format: Mapped[str]
    row_count: Mapped[int]
    created_at: Mapped[float]
    key_id: Mapped[str | None]
    """The key that uploaded it or created the job that left it, to whose budget it counts."""
    expires_at: Mapped[float | None]
    deleted_at: Mapped[float | None]
