"""Pages of a listing: by id, so that rows added meanwhile neither repeat nor vanish."""

from typing import Any, Literal, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Order = Literal["asc", "desc"]
T = TypeVar("T")


def page(
    s: Session,
    query: Select[T],
    key: InstrumentedAttribute[Any],
    *,
    after: Any | None,
    limit: int,
    order: Order = "desc",
) -> tuple[list[T], bool]:
    """At most `limit` rows that come after `after` (exclusive), and whether more follow."""
    if after is not None:
        query = query.where(key > after if order == "asc" else key < after)
    query = query.order_by(key.asc() if order == "asc" else key.desc()).limit(limit + 1)
    rows = list(s.scalars(query))
    return rows[:limit], len(rows) > limit
