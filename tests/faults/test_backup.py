"""A backup that is made while jobs run, and what becomes of them where it is restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db import backup, verify
from db.settings import StorageSettings
from tests.integration.workers.workplace import Workplace
from tests.servers import Valkey

_SETTINGS = {"heartbeat_s": 0.5, "lease_s": 4.0, "backoff_s": 0.0, "warm_engines": 0, "worker_name": "same"}


@contextmanager
def working(home: Path, broker: Valkey) -> Iterator[Workplace]:
    """The service of a home, without its API."""
    broker.flush()
    place = Workplace(home, f"sqlite:///{home}/trainyard.db", **_SETTINGS)
    with place.process("workers.recover", broker.url), place.process("workers", broker.url):
        yield place
    place.close()


def weights(place: Workplace, job_id: str) -> str:
    (model,) = place.artifacts(job_id, "model")
    return place.digests(model)["model.safetensors"]


def test_jobs_that_run_or_wait_at_a_backup_go_on_where_it_is_restored(
    tmp_path: Path, sqlite_template: Path, valkey: Valkey
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "trainyard.db").write_bytes(sqlite_template.read_bytes())
    with working(here, valkey) as place:
        running, waiting = place.submit_tiny(steps=100, save_steps=20), place.submit_tiny()
        place.wait_for_step(running, 50)
        backup.save(StorageSettings(home=here), tmp_path / "backup")
        assert place.job(running).state == "running"
        assert place.wait(running).state == place.wait(waiting).state == "succeeded"
        came_to = place.losses(running), weights(place, running), weights(place, waiting)
    backup.restore(StorageSettings(home=there), tmp_path / "backup")
    with working(there, valkey) as place:
        place.project_id = place.job(running).project_id
        assert place.wait(running).state == place.wait(waiting).state == "succeeded"
        assert (place.losses(running), weights(place, running), weights(place, waiting)) == came_to
        assert (place.attempts(running)[1].resume_step or 0) >= 40
        looks = list(verify.look_at_all(place.database, place.blobs))
    assert {look.condition for look in looks} == {"sound"}
