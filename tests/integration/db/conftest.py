"""Two projects in one database, which is SQLite once and PostgreSQL once."""

import pytest

from db import projects
from db.session import Database
from tests.integration.db.work import Work


@pytest.fixture
def work(database: Database) -> Work:
    with database.write() as s:
        return Work(database, projects.create(s, "mine").id)


@pytest.fixture
def theirs(database: Database, work: Work) -> Work:
    """Another project in the same database."""
    with database.write() as s:
        return Work(database, projects.create(s, "theirs").id)
