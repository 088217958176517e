"""Promotions: the artifacts that an alias has pointed to, in order."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Promotion(Row):
    """A promotion: `name@alias` points to `artifact_id` until the next one. Rows are added and never changed.

    `figures` holds the metrics that the gate compared; `forced` says that the gate was overruled. A rollback restores
    the artifact of the promotion with the number `back_to`.
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
