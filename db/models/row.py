"""The base class of all tables: column types by annotation, constraint names, and text that any database accepts."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Double, MetaData, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase


class AnyText(TypeDecorator[str]):
    """Text in which NUL and lone surrogates are stored as U+FFFD.

    PostgreSQL refuses both with an error in the middle of a transaction. With the replacement, a user's string with
    such a character can be stored as data, and matches nothing when it is looked up as an id.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return value if value is None else storable(value)


def storable(text: str) -> str:
    """Return the text with every NUL and lone surrogate replaced by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Row(DeclarativeBase):
    """The base class of all tables. JSON columns are plain JSON, not JSONB, and so keep the order of keys."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: AnyText,
        int: BigInteger,
        float: Double,
        dict[str, Any]: JSON(none_as_null=True),
        dict[str, float | None]: JSON(none_as_null=True),
    }
