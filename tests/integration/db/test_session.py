"""Reads that see one moment, writes that happen whole or not at all."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, IntegrityError, InternalError

from db import clock, health, jobs, migrate, projects, records
from db.errors import LowSpace, Unavailable, UnstorableText
from db.models import Project
from db.session import Database, engine_for
from tests.integration.db.work import Work
from tests.servers import Postgres


def test_a_read_sees_the_moment_it_began(work: Work):
    with work.database.read() as s:
        assert projects.by_name(s, "mine") is not None
        work.write(projects.create, "meanwhile")
        assert projects.by_name(s, "meanwhile") is None


def test_a_read_never_commits(work: Work):
    # PostgreSQL refuses, which is no outage; SQLite forgets.
    refused = contextlib.nullcontext() if work.database.dialect == "sqlite" else pytest.raises(InternalError)
    with refused, work.database.read() as s:
        s.execute(text("UPDATE projects SET name = 'changed'"))
    assert work.read(projects.by_name, "changed") is None


def test_a_write_that_fails_changes_nothing(work: Work):
    def interrupted():
        with work.database.write() as s:
            projects.create(s, "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert work.read(projects.by_name, "half") is None


def test_a_database_without_room_says_so_and_answers_later(work: Work):
    if work.database.dialect != "sqlite":
        pytest.skip("PostgreSQL keeps its files elsewhere")

    def write():
        with work.database.write() as s:
            s.execute(text("PRAGMA max_page_count = 1"))  # SQLite takes it as: not one page more than there are
            projects.create(s, "x" * 1_000_000)

    with pytest.raises(LowSpace) as caught:
        write()
    assert isinstance(caught.value, Unavailable)


def test_rows_can_be_used_after_the_session(work: Work):
    assert work.write(projects.create, "later").name == "later"


def test_a_write_inside_a_write_is_refused_where_it_would_wait_for_itself(work: Work):
    if work.database.dialect != "sqlite":
        pytest.skip("PostgreSQL gives it a connection of its own")
    with work.database.write(), pytest.raises(RuntimeError, match="inside write"), work.database.write():
        pass
    work.write(projects.create, "the lock is free again")


def test_two_processes_worth_of_writers_wait_for_each_other(work: Work):
    job_id = work.submit()
    others = [Database(work.database.url) for _ in range(4)]

    def write(database: Database) -> None:
        for _ in range(10):
            with database.write() as s:
                job = jobs.find(s, job_id)
                assert job is not None
                records.note(s, job_id, "log", "info", "told")

    threads = [threading.Thread(target=write, args=(database,)) for database in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in others:
        database.close()
    assert work.job(job_id).last_seq == 41


def test_references_are_enforced(work: Work):
    with pytest.raises(IntegrityError):
        work.write(jobs.create, [jobs.NewJob("proj-unknown", {}, "sft", 0)])


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE jobs SET state = 'odd'",
        "UPDATE jobs SET state = 'running'",
        "UPDATE jobs SET state = 'failed'",
        "UPDATE jobs SET fence = -1",
    ],
)
def test_the_database_refuses_rows_that_cannot_be(work: Work, broken: str):
    work.submit()
    with pytest.raises(IntegrityError):
        work.write(lambda s: s.execute(text(broken)))


def test_a_database_that_is_away_is_told_as_unavailable():
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), away.read() as s:
        projects.by_name(s, "mine")
    assert not health.ping(away)
    assert not health.up_to_date(away)
    away.close()


def test_an_outage_is_told_without_the_data_of_the_statement(work: Work):
    def fail():
        with work.database.read() as s:
            s.execute(text("SELECT * FROM nothing WHERE a = :a"), {"a": "a user's secret"})

    with pytest.raises(Exception, match="nothing") as caught:
        fail()
    if isinstance(caught.value, Unavailable):
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("statement", ["SELECT a FROM nothing", "SELECT nothing FROM projects", "DELETE FROM nothing"])
def test_a_schema_that_lacks_something_may_yet_be_brought_up(work: Work, statement: str):
    with pytest.raises(Unavailable, match="nothing"):
        work.write(lambda s: s.execute(text(statement)))
    with pytest.raises(Unavailable, match="nothing"):
        work.read(lambda s: s.execute(text(statement)))


def test_a_database_with_the_newest_schema_is_ready(database: Database):
    assert health.ping(database)
    assert health.up_to_date(database)


def test_a_database_with_an_older_schema_is_not_ready(empty_database_url: str):
    database = Database(empty_database_url)
    assert health.ping(database)
    assert not health.up_to_date(database)
    migrate.upgrade(empty_database_url)
    assert health.up_to_date(database)
    database.close()


def test_the_clock_of_a_statement_and_the_clock_by_itself_agree(work: Work):
    with work.database.read() as s:
        assert clock.now(s) == pytest.approx(s.scalar(select(clock.moment(s))), abs=5)


@pytest.mark.postgres
def test_postgresql_takes_back_what_a_process_that_stands_still_has_begun(postgres: Postgres):
    url = postgres.create()
    database = Database(url, idle_s=0.2)

    def stand_still() -> None:
        with database.write() as s:
            projects.create(s, "mine")
            time.sleep(0.5)

    with pytest.raises(Unavailable, match="did not wait"):
        stand_still()
    with database.read() as s:
        assert projects.by_name(s, "mine") is None
    database.close()
    postgres.drop(url)


@pytest.fixture
def postgres_database(postgres: Postgres) -> Iterator[Database]:
    url = postgres.create()
    database = Database(url)
    yield database
    database.close()
    postgres.drop(url)


@pytest.fixture(scope="module")
def tcp_url() -> Iterator[str]:
    """A database of a server that is reached by TCP."""
    server = Postgres(host="127.0.0.1")
    yield server.create()
    server.close()


def socket_options(url: str) -> dict[str, int]:
    engine = engine_for(url)
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            options = {name: line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names}
            options["SO_KEEPALIVE"] = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    engine.dispose()
    return options


@pytest.mark.postgres
def test_a_connection_notices_within_seconds_that_its_server_is_silent(tcp_url: str):
    expected = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}
    assert socket_options(tcp_url) == expected | {"SO_KEEPALIVE": 1}


@pytest.mark.postgres
def test_an_option_in_the_url_of_the_database_is_kept(tcp_url: str):
    assert socket_options(f"{tcp_url}?keepalives_idle=60")["TCP_KEEPIDLE"] == 60


@pytest.mark.postgres
def test_postgresql_limits_how_long_a_transaction_is_idle_or_waits_for_a_lock(postgres_database: Database):
    with postgres_database.read() as s:
        limits = [s.scalar(text(f"SHOW {name}")) for name in ("idle_in_transaction_session_timeout", "lock_timeout")]
    assert limits == ["1min", "30s"]


@pytest.mark.postgres
def test_a_lock_that_is_not_freed_in_time_is_an_outage(postgres_database: Database):
    project = select(Project).with_for_update()
    with postgres_database.write() as s:
        projects.create(s, "mine")

    def wait_for_it() -> None:
        with postgres_database.write() as s:
            s.execute(text("SET LOCAL lock_timeout = 50"))
            s.scalars(project).all()

    with postgres_database.write() as s:
        s.scalars(project).all()
        with pytest.raises(Unavailable, match="lock timeout"):
            wait_for_it()


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT id FROM jobs WHERE id = :given", "a\0b"),
        ("SELECT CAST(:given AS jsonb) ->> 'a'", '{"a": "\\u0000"}'),
        ("SELECT convert_from(decode(:given, 'hex'), 'UTF8')", "ff"),
    ],
)
def test_text_that_postgresql_cannot_hold_is_an_error_of_the_caller(
    postgres_database: Database, statement: str, value: str
):
    with pytest.raises(UnstorableText), postgres_database.read() as s:
        s.execute(text(statement), {"given": value})


@pytest.mark.postgres
def test_other_errors_about_data_stay_bugs(postgres_database: Database):
    with pytest.raises(DataError, match="division by zero"), postgres_database.read() as s:
        s.execute(text("SELECT 1 / 0"))


@pytest.mark.postgres
def test_metadata_with_a_nul_finds_an_error_of_the_caller(postgres_database: Database):
    with pytest.raises(UnstorableText), postgres_database.read() as s:
        jobs.page(s, "proj-1", after=None, limit=1, metadata={"na\0me": "value"})


def test_an_error_shows_no_parameters(work: Work):
    with pytest.raises(IntegrityError) as caught:
        work.write(lambda s: s.execute(text("INSERT INTO projects (id) VALUES (:id)"), {"id": "a user's secret"}))
    assert "secret" not in str(caught.value).replace(str(caught.value.orig), "")


def test_sqlite_is_as_durable_as_it_can_be(work: Work):
    if work.database.dialect != "sqlite":
        pytest.skip("about SQLite")
    with work.database.read() as s:
        pragmas = {name: s.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
