"""Promotions: what an alias meant, one after the other."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Promotion(Row):
    """One turn of an alias `name@alias`: it means `artifact_id` until the next turn. Rows are added and never changed.

    `figures` is what the gate saw; `forced` that it was overruled. A rollback goes back to the artifact of the turn
    `back_to`.
    """

    __tablename__ = "promotions"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number"),
        UniqueConstraint("project_id", "name", "alias", "number"),
        Index(None, "artifact_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    alias: Mapped[str]
    number: Mapped[int]
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"))
    back_to: Mapped[int | None]
    forced: Mapped[bool]
    figures: Mapped[dict[str, Any]]
    key_id: Mapped[str]
    created_at: Mapped[float]
