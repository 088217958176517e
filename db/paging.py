"""Pages of a listing, by id, so that rows added between two pages are neither repeated nor skipped."""

from typing import Any, Literal, TypeVar

from sqlalchemy import Select, String, cast, func, literal
from sqlalchemy.orm import InstrumentedAttribute, Session

_MOST_STORED_CHARACTERS = 2 << 20
"""A page of `page_of_documents` ends after about this much stored JSON, which takes ten times as much memory when read."""

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
    """Return at most `limit` rows that come after `after` (exclusive), and whether more follow."""
    rows = list(s.scalars(ordered(query, key, after=after, order=order).limit(limit + 1)))
    return rows[:limit], len(rows) > limit


def ordered(query: Select[T], key: InstrumentedAttribute[Any], *, after: Any | None, order: Order) -> Select[T]:
    """Return the query for rows that come after `after` (exclusive), in that order."""
    if after is not None:
        query = query.where(key > after if order == "asc" else key < after)
    return query.order_by(key.asc() if order == "asc" else key.desc())


def page_of_documents(
    s: Session,
    query: Select[T],
    key: InstrumentedAttribute[Any],
    documents: tuple[InstrumentedAttribute[Any], ...],
    *,
    limit: int,
) -> tuple[list[T], bool]:
    """Return the first rows of an ordered query, and whether more follow.

    The page ends before `limit` where the `documents` of its rows, which users wrote, grow too long to be held together.
    It always has the first row. The columns are measured in the database, so rows that do not fit are never read.
    """
    lengths = (func.coalesce(func.length(cast(column, String)), 0) for column in documents)
    size = sum(lengths, start=literal(0))
    sizes = s.execute(query.with_only_columns(key, size).limit(limit + 1)).all()
    keys, total = list[Any](), 0
    for row_key, row_size in sizes[:limit]:
        total += row_size
        if keys and total > _MOST_STORED_CHARACTERS:
            break
        keys.append(row_key)
    rows = list(s.scalars(query.where(key.in_(keys)))) if keys else []
    return rows, len(keys) < len(sizes)
