"""The parts of uploads."""

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class UploadPart(Row):
    """A piece of a file; its bytes are the blob `sha256`."""

    __tablename__ = "upload_parts"
    __table_args__ = (
        CheckConstraint("length(sha256) = 64", name="sha256"),
        CheckConstraint("size_bytes >= 0", name="size"),
        Index(None, "upload_id"),
        Index(None, "sha256"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"))
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[float]
