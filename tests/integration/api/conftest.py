"""One service for each module of tests."""

from collections.abc import Iterator

import pytest

from db import migrate
from tests.integration.api.live import Live, served


@pytest.fixture(scope="session", autouse=True)
def _broker_down() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TRAINYARD_BROKER_URL", "redis://127.0.0.1:1/0")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    url = f"sqlite:///{home}/trainyard.db"
    migrate.upgrade(url)
    with served(home, url) as running:
        yield running
