"""A disk that is really full, and a database that takes no writes: refused with a Retry-After, and over by itself."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from db import verify
from tests.disks import small_disk
from tests.integration.api.live import Live, pretrain_spec, served, until, upload
from tests.servers import Postgres

_DISK_BYTES = 48 << 20
_CONNECTIONS = 10
_TEXT = b"to be or not to be\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, which a test may fill."""
    with small_disk(tmp_path / "disk", _DISK_BYTES) as folder:
        yield folder


def fill(disk: Path) -> Path:
    """Write until there is no byte left; what has to be removed to have room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


def attempts_to_write(live: Live, file_id: str, spare_id: str) -> dict[str, httpx.Response]:
    """One of each way: bytes and a row, a row alone, and a row that goes."""
    return {
        "upload": upload(live.mine, _TEXT * 3, "pretrain", "more.txt"),
        "job": live.mine.post("/v1/jobs", json=pretrain_spec(file_id)),
        "delete": live.mine.delete(f"/v1/files/{spare_id}"),
    }


def two_files(live: Live) -> tuple[str, str]:
    answers = [upload(live.mine, _TEXT * count, "pretrain", f"{count}.txt") for count in (1, 2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    file_id, spare_id = (answer.json()["id"] for answer in answers)
    return file_id, spare_id


def assert_refused(answers: dict[str, httpx.Response], status: int) -> None:
    for way, answer in answers.items():
        assert answer.status_code == status, f"{way}: {answer.status_code} {answer.text}"
        assert 1 <= int(answer.headers["retry-after"]) <= 60


def assert_done(answers: dict[str, httpx.Response]) -> None:
    assert {way: answer.status_code for way, answer in answers.items()} == {"upload": 201, "job": 201, "delete": 200}


def assert_sound(live: Live) -> None:
    looks = list(verify.look_at_all(live.database, live.service.blobs))
    assert {look.condition for look in looks} == {"sound"}


def test_a_full_disk_answers_507_loses_nothing_and_needs_no_hand_once_there_is_room(
    disk: Path, sqlite_template: Path
) -> None:
    path = disk / "trainyard.db"
    shutil.copyfile(sqlite_template, path)
    with served(disk, f"sqlite:///{path}", storage={"low_space_bytes": 0}) as live:
        file_id, spare_id = two_files(live)
        kept = live.mine.post("/v1/jobs", json=pretrain_spec(file_id)).json()["id"]
        filler = fill(disk)
        assert_refused(attempts_to_write(live, file_id, spare_id), 507)
        assert live.mine.get(f"/v1/jobs/{kept}").json()["status"] == "queued"
        assert live.mine.get(f"/v1/files/{file_id}/content").content == _TEXT
        filler.unlink()
        assert_done(attempts_to_write(live, file_id, spare_id))
        assert live.mine.get(f"/v1/jobs/{kept}").json()["status"] == "queued"
        assert_sound(live)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    engine.dispose()


@pytest.mark.postgres
def test_postgresql_that_takes_no_writes_answers_503_and_needs_no_hand_once_it_does(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.create()
    with served(tmp_path, url) as live:
        file_id, spare_id = two_files(live)
        allow_writes(url, "on")
        assert_refused(attempts_to_write(live, file_id, spare_id), 503)
        assert live.mine.get(f"/v1/files/{file_id}/content").content == _TEXT
        allow_writes(url, "off")
        assert_done(attempts_to_write(live, file_id, spare_id))
        assert_sound(live)
    postgres.drop(url)


def written(live: Live) -> bool:
    return upload(live.mine, _TEXT * 4, "pretrain", "first.txt").status_code == 201


def test_sqlite_that_takes_no_writes_answers_503_and_needs_no_hand_once_it_does(
    tmp_path: Path, sqlite_template: Path
) -> None:
    path = tmp_path / "trainyard.db"
    shutil.copyfile(sqlite_template, path)
    with served(tmp_path, f"sqlite:///{path}") as live:
        file_id, spare_id = two_files(live)
        with protected(path):
            assert_refused(attempts_to_write(live, file_id, spare_id), 503)
            assert live.mine.get(f"/v1/files/{file_id}/content").content == _TEXT
        # Connections of that time may be left, each of which is found out by its first write; all of a pool take turns.
        until(lambda: all(written(live) for _ in range(_CONNECTIONS)))
        assert_done(attempts_to_write(live, file_id, spare_id))
        assert_sound(live)


@contextmanager
def protected(path: Path) -> Iterator[None]:
    """The kernel refuses every write to the database and its log, through open files too."""
    files = [path, path.with_name(path.name + "-wal")]
    done = subprocess.run(["chattr", "+i", *files], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"files cannot be made immutable here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


def allow_writes(url: str, read_only: str) -> None:
    """For new connections, and all of the service's are made anew."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = make_url(url).database
        connection.execute(text("SET default_transaction_read_only = off"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {read_only}"))
        others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        connection.execute(text(f"{others} WHERE datname = current_database() AND pid <> pg_backend_pid()"))
    engine.dispose()
