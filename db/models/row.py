"""What every table shares: column types by annotation, names of constraints, text that any database takes."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Double, MetaData, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase


class AnyText(TypeDecorator[str]):
    """Text in which NUL and lone surrogates become U+FFFD on their way in.

    PostgreSQL refuses both, with an error in the middle of a transaction. Replaced, a user's string
    with such a character is kept where it is data, and finds nothing where it is looked up as an id.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return value if value is None else storable(value)


def storable(text: str) -> str:
    """The text with every NUL and lone surrogate replaced by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Row(DeclarativeBase):
    """The parent of all tables. JSON is plain JSON on both databases: it keeps the order of keys, and all of a text but NUL."""

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
