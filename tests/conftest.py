"""Databases, a broker and a blob store for tests. Nothing starts until a test asks for it."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from db import migrate
from db.blobs import BlobStore
from db.session import Database
from engine import gc_pause
from tests.servers import S3, Postgres, Valkey

# Models this small lose more to threads than they gain. Here, before any test imports torch, which reads it only then:
# an engine in this process must count as one in a process of its own does, or their last bits differ.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process that is forked has had no other thread
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What all tests import stays: else each run in this process, which looks for garbage as it ends, goes through it."""
    with gc_pause.paused():
        return (yield)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole run. A test that kills or stops one starts its own."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A Valkey server for the whole run. A test that kills or stops one starts its own."""
    server = Valkey()
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server for the whole run. A test that kills or stops one starts its own."""
    server = S3()
    yield server
    server.close()


@pytest.fixture
def broker_url(valkey: Valkey) -> str:
    """The URL of an empty broker."""
    valkey.flush()
    return valkey.url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=_DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh database with the newest schema: the test runs once on SQLite, once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "trainyard.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=_DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create(empty=True)
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", low_space_bytes=0)
