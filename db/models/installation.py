"""The installation: the id by which this database is told from those of other services."""

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.row import Row


class Installation(Row):
    """The installation, in the only row of its table. A restored database gets another id than the saved one."""

    __tablename__ = "installations"
    __table_args__ = (CheckConstraint("number = 1", name="one"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    id: Mapped[str]
    created_at: Mapped[float]
