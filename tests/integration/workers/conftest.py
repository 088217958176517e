"""A workplace on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workers.workplace import Workplace


@pytest.fixture
def workplace(tmp_path: Path, database_url: str) -> Iterator[Workplace]:
    place = Workplace(tmp_path / "home", database_url)
    yield place
    place.close()
