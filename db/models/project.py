"""Projects: whose everything is."""

from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Project(Row):
    """A tenant. Every other row belongs to one, and no query crosses from one to another."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
