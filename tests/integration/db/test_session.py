"""Reads that see one moment, writes that happen whole or not at all."""

import contextlib
import threading
import time

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, InternalError

from db import clock, health, jobs, migrate, projects, records
from db.errors import LowSpace, Unavailable
from db.session import Database
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


def test_sqlite_is_as_durable_as_it_can_be(work: Work):
    if work.database.dialect != "sqlite":
        pytest.skip("about SQLite")
    with work.database.read() as s:
        pragmas = {name: s.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
