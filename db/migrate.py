"""The schema and its history: `python -m db.migrate upgrade | current | check`.

The first two use the database of TRAINYARD_DATABASE_URL; `check` compares the migrations with db.models in a
temporary database.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from db.settings import StorageSettings

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_LOCK = 0x7472_6169_6E79_7264
"""The advisory lock that lets one process at a time migrate a PostgreSQL database."""


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database to a revision, by default the newest, and create a SQLite file with its folder."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Downgrade the database to an older revision; "base" is an empty database."""
    _run(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> None:
    """Compare the tables of an up-to-date database with db.models; raises alembic's CommandError if they differ."""
    _run(url, command.check)


def current(url: str) -> str | None:
    """Return the revision of the database, or None if it is empty or its file does not exist, which is not created."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        return None
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """Return the newest revision."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def history() -> list[str]:
    """Return all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def _run(url: str, action: Callable[[Config], None]) -> None:
    """Run an action under a lock and in one transaction, so that all migrations take effect or none does."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    # Not an engine of db.session: rebuilding a table on SQLite needs foreign keys to be off.
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("PRAGMA busy_timeout = 30000"))
            connection.execute(text("BEGIN IMMEDIATE"))
        else:
            connection.execute(text("BEGIN"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        try:
            action(config)
        except BaseException:
            connection.execute(text("ROLLBACK"))
            raise
        connection.execute(text("COMMIT"))


def main(arguments: list[str]) -> None:
    """Run one of the commands; an unknown one exits with the usage."""
    url = StorageSettings().database_url
    match arguments:
        case ["upgrade"]:
            upgrade(url)
        case ["check"]:
            with tempfile.TemporaryDirectory() as folder:
                own = f"sqlite:///{folder}/check.db"
                upgrade(own)
                check(own)
        case ["current"]:
            sys.stdout.write(f"{current(url)}\n")
        case _:
            sys.exit("usage: python -m db.migrate upgrade | current | check")


if __name__ == "__main__":
    main(sys.argv[1:])
