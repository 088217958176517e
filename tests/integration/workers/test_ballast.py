"""The ballast: taken while there is room, dropped when there is none."""

import shutil
from pathlib import Path

import pytest

from workers.ballast import Ballast

SIZE = 1 << 20
ROOM, FULL = 1 << 30, 1 << 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ballast"


def test_it_takes_the_space_that_it_says(path: Path):
    Ballast(path, SIZE).tend(ROOM)
    assert path.stat().st_size == SIZE
    assert path.stat().st_blocks * 512 >= SIZE


def test_it_is_dropped_when_the_disk_is_full_and_stays_away_until_there_is_room(path: Path):
    ballast = Ballast(path, SIZE)
    ballast.tend(ROOM)
    ballast.tend(FULL)
    assert not path.exists()
    ballast.tend(2 * SIZE + FULL)
    assert not path.exists()
    ballast.tend(ROOM)
    assert path.exists()


def test_none_is_kept_where_none_is_wanted(path: Path):
    Ballast(path, 0).tend(ROOM)
    assert not path.exists()


def test_its_own_disk_is_measured(path: Path):
    free = shutil.disk_usage(path.parent).free
    Ballast(path, free).keep()
    assert not path.exists()
    Ballast(path, SIZE).keep()
    assert path.exists()


def test_one_that_cannot_be_taken_is_told_of_once(path: Path, caplog: pytest.LogCaptureFixture):
    path.with_name("ballast.part").mkdir()
    ballast = Ballast(path, SIZE)
    ballast.keep()
    ballast.keep()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
