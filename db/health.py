"""Health checks of the database."""

import logging
from pathlib import Path

from alembic.migration import MigrationContext
from sqlalchemy import make_url, text

from db import migrate
from db.errors import Unavailable
from db.session import Database

_log = logging.getLogger(__name__)


def ping(db: Database) -> bool:
    """Return whether the database answers."""
    try:
        with db.read() as s:
            s.execute(text("SELECT 1"))
    except Unavailable as error:
        _log.warning("%s", error)
        return False
    return True


def begun(url: str) -> bool:
    """Return whether the database has a schema. An SQLite file that does not exist is not created.

    Raises:
        db.errors.Unavailable: the database cannot be reached.
    """
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and not _has_bytes(Path(address.database or "")):
        return False
    db = Database(url)
    try:
        with db.read() as s:
            return MigrationContext.configure(s.connection()).get_current_revision() is not None
    finally:
        db.close()


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def up_to_date(db: Database) -> bool:
    """Return whether the database answers and has the newest schema."""
    try:
        with db.read() as s:
            return MigrationContext.configure(s.connection()).get_current_revision() == migrate.head()
    except Unavailable as error:
        _log.warning("the schema's revision cannot be read: %s", error)
        return False
