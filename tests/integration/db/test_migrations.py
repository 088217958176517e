"""Migrations, up and down, with data in the tables."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, inspect, select, text

from db import (
    artifacts,
    audit,
    budgets,
    evals,
    files,
    gangs,
    idempotency,
    installation,
    jobs,
    keys,
    leases,
    migrate,
    orders,
    outbox,
    permissions,
    plans,
    projects,
    records,
    registry,
    uploads,
    webhooks,
    workers,
)
from db.blobs import Blob
from db.models import Row
from db.session import Database
from db.state import JobState
from tests.integration.db.work import ENTRY, event, metric

ROOT = Path(__file__).parents[3]


def fill(url: str) -> None:
    """At least one row in every table."""
    database = Database(url)
    with database.write() as s:
        installation.own_id(s)
        project = projects.create(s, "default")
        made = evals.add(s, project.id, "sums", {})
        run = evals.add_run(s, made, "first", {})
        item = {"number": 0, "row": {}, "results": {}, "state": "pass"}
        evals.advance(s, run, [item], state="completed", offset_bytes=1, tally={})
        upload = uploads.add(s, project.id, filename="a", purpose="evals", size_bytes=1, file_expires_after_s=None)
        uploads.add_part(s, upload, Blob("c" * 64, 1))
        hook = ["fine_tuning.job.succeeded"]
        webhooks.add(s, project.id, name="hook", url="https://example.com/", event_types=hook)
        key, _ = keys.create(s, project.id, "laptop", b"secret")
        budgets.put(s, project.id, key.id, money=1.0)
        assert idempotency.take(s, idempotency.IdempotentRequest(key.id, "/v1/jobs", None, "b" * 64)) is None
        files.add(
            s, project.id, filename="a", purpose="evals", size_bytes=1, sha256="a" * 64, format="chat", row_count=1
        )
        plan = plans.add(s, project.id, kind="sft", spec={}, forecast={})
        (job,) = jobs.create(s, [jobs.NewJob(project.id, {}, "sft", 0, plan_id=plan.id)])
        assert leases.claim(s, job.id, worker="w", lease_s=60)
        assert leases.begin_running(s, job.id, 1)
        assert records.append(s, job.id, 1, events=[event()], metrics=[metric(1), metric(20_000)], lease_s=60)
        told = {"step": 1, "files": [ENTRY], "metrics": {}, "lineage": {}}
        base = artifacts.publish_result(s, job.id, 1, kind="model", layout="model", name="tiny", **told)
        assert base is not None
        registry.turn(s, base, "production", key_id=key.id, figures={})
        permissions.grant(s, base.id, [project.id])
        assert leases.settle(s, job.id, 1, state=JobState.SUCCEEDED)
        waiting, going = jobs.create(s, [jobs.NewJob(project.id, {}, "sft", 0, base.id)] * 2)
        assert orders.pause(s, project.id, waiting.id)
        assert leases.claim(s, going.id, worker="w", lease_s=60)
        assert leases.begin_running(s, going.id, 1)
        assert orders.pause(s, project.id, going.id)
        assert outbox.pending(s, 1)
        request = {"project_id": project.id, "key_id": keys.list_keys(s, project.id)[0].id, "request_id": "req-1"}
        audit.note_all(s, "job.create", [(request, job.id)])
        workers.beat(s, workers.Advert("w", "here", 1, "cpu", 0, 3.0, 1.0))
        gangs.enlist(s, going.id, 1, ["w"], gangs.Meeting("10.0.0.1", 4321), lease_s=60)
    with database.read() as s:
        assert all(s.execute(select(table)).first() for table in Row.metadata.sorted_tables)
    database.close()


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found - {"alembic_version"}


def test_the_newest_schema_is_that_of_the_models(empty_database_url: str):
    migrate.upgrade(empty_database_url)
    migrate.check(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()


def test_a_schema_that_differs_from_the_models_is_found_out(empty_database_url: str):
    migrate.upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs ADD COLUMN extra INTEGER"))
    engine.dispose()
    with pytest.raises(Exception, match="New upgrade operations detected"):
        migrate.check(empty_database_url)


def rows(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        counted = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables(url)}
    engine.dispose()
    return counted


def test_every_migration_goes_down_and_up_again_and_keeps_what_both_schemas_can_hold(empty_database_url: str):
    migrate.upgrade(empty_database_url)
    fill(empty_database_url)
    filled = rows(empty_database_url)
    for target in migrate.history()[:-1][::-1]:
        migrate.downgrade(empty_database_url, target)
        assert migrate.current(empty_database_url) == target
        kept = rows(empty_database_url)
        assert kept == {name: filled[name] for name in kept}
    migrate.upgrade(empty_database_url)
    migrate.check(empty_database_url)
    migrate.downgrade(empty_database_url, "base")
    assert migrate.current(empty_database_url) is None
    assert tables(empty_database_url) == set()
    migrate.upgrade(empty_database_url)
    fill(empty_database_url)


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, in no order."""
    engine = create_engine(url)
    metadata = MetaData()
    with engine.connect() as connection:
        metadata.reflect(connection)
        found = {
            name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=repr)
            for name, table in metadata.tables.items()
            if name != "alembic_version"
        }
    engine.dispose()
    return found


def test_data_of_every_revision_are_the_same_after_an_upgrade_from_it(empty_database_url: str):
    """Every table that a revision has is filled, in its own columns; the newest's are compared as far as it had them."""
    migrate.upgrade(empty_database_url)
    fill(empty_database_url)
    for released in migrate.history()[:-1][::-1]:
        migrate.downgrade(empty_database_url, released)
        before = contents(empty_database_url)
        assert all(before.values()), released
        migrate.upgrade(empty_database_url)
        after = contents(empty_database_url)
        for name, rows_before in before.items():
            columns = rows_before[0].keys() & after[name][0].keys()
            kept, had = (
                sorted(({column: row[column] for column in sorted(columns)} for row in rows_), key=repr)
                for rows_ in (after[name], rows_before)
            )
            assert kept == had, f"{name} of {released}"


def test_an_upgrade_of_what_is_newest_keeps_every_row(empty_database_url: str):
    migrate.upgrade(empty_database_url)
    fill(empty_database_url)
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.read() as s:
        assert projects.by_name(s, "default") is not None
    database.close()


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(empty_database_url: str):
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE outbox (id INTEGER)"))
    engine.dispose()
    with pytest.raises(Exception, match="outbox"):
        migrate.upgrade(empty_database_url)
    assert tables(empty_database_url) == {"outbox"}


def test_processes_that_upgrade_at_once_wait_for_each_other(empty_database_url: str):
    faults: list[BaseException] = []

    def upgrade() -> None:
        command = [sys.executable, "-m", "db.migrate", "upgrade"]
        environment = os.environ | {"TRAINYARD_DATABASE_URL": empty_database_url}
        try:
            subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True)
        except subprocess.CalledProcessError as error:
            faults.append(RuntimeError(error.stderr.decode()))

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    migrate.check(empty_database_url)


def test_an_empty_database_has_no_revision(empty_database_url: str):
    assert migrate.current(empty_database_url) is None


def test_an_unknown_command_is_told_with_those_there_are():
    with pytest.raises(SystemExit, match="usage"):
        migrate.main(["sideways"])


def test_the_command_line_checks_without_touching_the_users_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "not/there/yet"))
    monkeypatch.delenv("TRAINYARD_DATABASE_URL", raising=False)
    migrate.main(["check"])
    assert not (tmp_path / "not").exists()
