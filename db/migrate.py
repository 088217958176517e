"""The schema and its history: `python -m db.migrate upgrade | current | check`.

The first two are about the database of TRAINYARD_DATABASE_URL; `check` compares the migrations
with db.models in a database of its own.
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
    """Bring the database to a revision, the newest by default; creates the SQLite file and its folder."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take the database back to an older revision, "base" for an empty one."""
    _run(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> None:
    """Raises alembic's CommandError when the tables of an up-to-date database are not those of db.models."""
    _run(url, command.check)


def current(url: str) -> str | None:
    """The revision that the database is at, None when it is empty or, as a file, not there; then none is made."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        return None
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str | None:
    """The newest revision there is."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def history() -> list[str]:
    """All revisions, oldest first."""
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def _run(url: str, action: Callable[[Config], None]) -> None:
    """Do something under a lock and in one transaction: all migrations take, or none does."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    # Not the engine of db.session: rebuilding a table on SQLite needs its foreign keys off.
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
    """Run one of the commands; an unknown one is told with those there are."""
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
