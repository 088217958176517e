"""Running services for the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import Service, start


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that leave it as they found it."""
    running = start(tmp_path_factory.mktemp("service") / "home")
    yield running
    running.stop()


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service for a test that kills or stops it."""
    running = start(tmp_path / "home", warm_engines="0")  # it runs no job
    yield running
    running.stop()
