"""A database that takes no writes for a while: told as one that is away, which the API answers with a 503."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from db import projects
from db.errors import Unavailable
from db.session import Database
from tests.servers import Postgres


def allow_writes(url: str, state: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = make_url(url).database
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {state}"))
    engine.dispose()


def write(url: str) -> None:
    """Over a connection that has served a read before."""
    database = Database(url)
    try:
        with database.read() as s:
            projects.by_name(s, "mine")
        with database.write() as s:
            projects.create(s, "mine")
    finally:
        database.close()


@pytest.mark.postgres
def test_postgresql_that_takes_no_writes_is_away_until_it_takes_them_again(postgres: Postgres):
    url = postgres.create(empty=False)
    allow_writes(url, "on")
    with pytest.raises(Unavailable, match="takes no writes"):
        write(url)
    allow_writes(url, "off")
    write(url)
    postgres.drop(url)


def test_a_file_that_takes_no_writes_is_away(tmp_path: Path, sqlite_template: Path):
    path = tmp_path / "trainyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    with pytest.raises(Unavailable, match="readonly"):
        write(f"sqlite:///file:{path}?mode=ro&uri=true")
