"""Evals of OpenAI's API (/v1/evals), their runs, and an item for every row of a run."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Eval(Row):
    """An eval. `definition` holds data_source_config, testing_criteria and metadata as they were sent."""

    __tablename__ = "evals"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(
            "ix_evals_deleted",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL"),
            sqlite_where=text("deleted_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    definition: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    deleted_at: Mapped[float | None]


class EvalRun(Row):
    """A run of an eval over a data source. `definition` holds a copy of the criteria and the data source.

    `offset_bytes` is how far the source has been read: grading continues from there in any process. `tally` counts
    passed, failed and errored rows, in total and for each criterion by name.
    """

    __tablename__ = "eval_runs"
    __table_args__ = (
        CheckConstraint("state IN ('queued','in_progress','completed','canceled','failed')", name="state"),
        Index(None, "eval_id", "id"),
        Index(
            "ix_eval_runs_open",
            "id",
            postgresql_where=text("state IN ('queued','in_progress')"),
            sqlite_where=text("state IN ('queued','in_progress')"),
        ),
        Index(
            "ix_eval_runs_deleted",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL"),
            sqlite_where=text("deleted_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    definition: Mapped[dict[str, Any]]
    state: Mapped[str]
    offset_bytes: Mapped[int] = mapped_column(default=0)
    tally: Mapped[dict[str, Any]]
    error_message: Mapped[str | None]
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]


class EvalItem(Row):
    """One graded row; `number` counts the rows of the source from 0."""

    __tablename__ = "eval_items"
    __table_args__ = (CheckConstraint("state IN ('pass','fail','error')", name="state"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[dict[str, Any]]
    results: Mapped[dict[str, Any]]
    state: Mapped[str]
    created_at: Mapped[float]
