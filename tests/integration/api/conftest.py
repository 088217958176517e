"""One service for each module of tests, on each database."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.api.live import Live, served

if TYPE_CHECKING:
    from tests.servers import Postgres


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    if request.param == "sqlite":
        shutil.copyfile(sqlite_template, home / "trainyard.db")
        with served(home, f"sqlite:///{home}/trainyard.db") as running:
            yield running
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    with served(home, url) as running:
        yield running
    server.drop(url)
