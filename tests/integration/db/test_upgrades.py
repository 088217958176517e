"""A database of the first release, with the data it wrote, brought to the newest revision (test_migrations has the others)."""

from typing import Any

from sqlalchemy import MetaData, create_engine, insert, select

from db import jobs, migrate, service_stats
from db.session import Database

_SHA256 = "a" * 64
_SPEC = {"kind": "sft", "hyperparameters": {"learning_rate": 0.0001}, "suffix": "caf\u00e9"}
_JOB = {
    "project_id": "proj-1", "kind": "sft", "spec": _SPEC, "priority": 0, "fence": 1, "failures": 0,
    "dispatches": 1, "last_seq": 2, "created_at": 1000.25,
}  # fmt: skip
_MADE = {
    "project_id": "proj-1", "job_id": "job-2", "layout": "model", "step": 5, "metrics": {"eval_loss": 1.5},
    "lineage": {"seed": 42}, "digest": _SHA256, "size_bytes": 10, "created_at": 1002.0,
}  # fmt: skip
FIRST: dict[str, list[dict[str, Any]]] = {
    "projects": [{"id": "proj-1", "name": "default", "created_at": 1000.0}],
    "api_keys": [
        {"id": "key-1", "project_id": "proj-1", "name": "first", "prefix": "ty-abc", "secret_hash": "h", "created_at": 1.0}
    ],
    "files": [
        {
            "id": "file-1", "project_id": "proj-1", "filename": "rows.jsonl", "purpose": "fine-tune", "size_bytes": 9,
            "sha256": _SHA256, "format": "chat", "row_count": 3, "created_at": 1000.5,
        }
    ],
    "jobs": [
        {"id": "job-1", "state": "queued", **_JOB},
        {"id": "job-2", "state": "succeeded", "finished_at": 1003.5, "result": {"metrics": {"eval_loss": 1.5}}, **_JOB},
        {"id": "job-3", "state": "running", "lease_expires_at": 1004.0, "worker": "w", **_JOB},
    ],
    "attempts": [{"job_id": "job-2", "number": 1, "worker": "w", "started_at": 1001.0, "outcome": "succeeded"}],
    "events": [
        {"job_id": "job-2", "seq": 1, "created_at": 1001.0, "type": "state", "level": "info", "message": "queued"}
    ],
    "metrics": [
        {
            "job_id": "job-2", "split": "train", "step": 1, "seq": 2, "attempt": 1, "created_at": 1001.5,
            "values": {"loss": 0.1, "grad_norm": None},
        }
    ],
    "artifacts": [
        {"id": "model-1", "kind": "model", "name": "tiny", "version": 1, **_MADE},
        {"id": "ckpt-1", "kind": "checkpoint", "deleted_at": 1003.0, "base_artifact_id": "model-1", **_MADE},
    ],
    "artifact_files": [
        {"artifact_id": "model-1", "path": "model.safetensors", "sha256": _SHA256, "size_bytes": 10}
    ],
    "outbox": [{"id": 1, "job_id": "job-1", "topic": "job", "created_at": 1000.0, "due_at": 1000.0, "attempts": 0}],
}  # fmt: skip


def fill(url: str) -> None:
    """Rows as the first release wrote them, in every table that it had."""
    engine = create_engine(url)
    with engine.begin() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        assert set(FIRST) == set(metadata.tables) - {"alembic_version"}
        for name, rows in FIRST.items():
            for row in rows:
                connection.execute(insert(metadata.tables[name]).values(row))
    engine.dispose()


def found(url: str) -> dict[str, list[dict[str, Any]]]:
    """The same columns of the same rows, wherever they are now."""
    engine = create_engine(url)
    with engine.connect() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        tables = {
            name: [dict(row) for row in connection.execute(select(metadata.tables[name])).mappings()] for name in FIRST
        }
    engine.dispose()
    return {
        name: [{column: row[column] for column in wanted} for wanted, row in zip(FIRST[name], rows, strict=True)]
        for name, rows in tables.items()
    }


def test_data_of_the_first_release_are_the_same_in_the_newest(empty_database_url: str):
    migrate.upgrade(empty_database_url, migrate.history()[0])
    fill(empty_database_url)
    migrate.upgrade(empty_database_url)
    assert found(empty_database_url) == FIRST
    migrate.check(empty_database_url)


def test_the_wait_of_a_job_of_the_first_release_is_counted(empty_database_url: str):
    migrate.upgrade(empty_database_url, migrate.history()[0])
    fill(empty_database_url)
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.read() as s:
        assert service_stats.waits(s) == (1, 0.75)
    database.close()


def test_a_job_of_the_first_release_can_be_read_after_an_upgrade(empty_database_url: str):
    migrate.upgrade(empty_database_url, migrate.history()[0])
    fill(empty_database_url)
    migrate.upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.read() as s:
        job = jobs.get(s, "proj-1", "job-1")
    database.close()
    assert job is not None
    assert (job.spec, job.state, job.queued_at) == (_SPEC, "queued", 1000.25)
