"""Projects: the tenants, to which all other rows belong."""

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Project(Row):
    """A tenant. Every other row belongs to one, and no query reads rows of several unless it is made for that.

    When workers are scarce, projects with queued jobs get them in proportion to their `share`.
    """

    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("share > 0 AND (max_running_jobs IS NULL OR max_running_jobs >= 0)", name="limits"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    share: Mapped[float] = mapped_column(default=1.0, server_default="1")
    max_running_jobs: Mapped[int | None]
