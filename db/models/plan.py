"""Plans: forecasts of what jobs will take."""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Plan(Row):
    """A fully resolved spec with the forecast of its job. A job names the plan that it follows."""

    __tablename__ = "plans"
    __table_args__ = (Index(None, "project_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]]
    forecast: Mapped[dict[str, Any]]
    created_at: Mapped[float]
