"""What a worker tells of itself."""

import time

import pytest

from db import migrate, placement, workers
from db.session import Database
from tests.integration.workers.workplace import wait_until
from tests.servers import Valkey
from workers import machine
from workers.presence import Presence
from workers.settings import WorkerSettings


@pytest.mark.parametrize("at_once", [1, 2])
def test_processes_that_take_jobs_side_by_side_share_the_machines_memory(
    database: Database, broker_url: str, at_once: int
) -> None:
    settings = WorkerSettings(broker_url=broker_url, worker_concurrency=at_once, worker_labels={"zone": "a"})
    presence = Presence(database, "one", settings)
    presence.start()
    try:
        there = first_heard(database)
    finally:
        presence.leave()
    (told,) = there
    assert (told.name, told.labels["zone"], told.memory_bytes) == ("one", "a", machine.device().memory_bytes // at_once)
    with database.read() as s:
        assert placement.present(s) == []


def test_a_worker_that_was_there_before_the_schema_is_heard_of_as_soon_as_that_is(
    empty_database_url: str, broker_url: str
) -> None:
    database = Database(empty_database_url)
    presence = Presence(database, "early", WorkerSettings(broker_url=broker_url, heartbeat_s=0.2))
    presence.start()
    try:
        time.sleep(0.5)  # it has found no table by now
        migrate.upgrade(empty_database_url)
        assert [told.name for told in first_heard(database)] == ["early"]
    finally:
        presence.leave()
        database.close()


def test_a_worker_that_no_job_reaches_is_lost_and_one_that_runs_a_job_is_not(database: Database) -> None:
    broker = Valkey()
    presence = Presence(database, "one", WorkerSettings(broker_url=broker.url, heartbeat_s=0.2))
    presence.start()
    try:
        assert first_heard(database)
        broker.stop()
        wait_until(lambda: state(database) == "lost", "it counts as lost")
        with presence.at_work():
            wait_until(lambda: state(database) == "idle", "it is there while it looks for jobs by itself")
            time.sleep(1.0)  # several heartbeats
            wait_until(lambda: state(database) == "idle", "it is still there")
        wait_until(lambda: state(database) == "lost", "it counts as lost again")
        broker.start()
        wait_until(lambda: state(database) == "idle", "it is there again")
        with presence.resting():
            wait_until(lambda: state(database) == "lost", "it takes no job")
        wait_until(lambda: state(database) == "idle", "it takes jobs again")
    finally:
        presence.leave()
        broker.close()


def test_a_presence_that_never_began_can_end(database: Database) -> None:
    Presence(database, "one", WorkerSettings()).leave()


def state(database: Database) -> str:
    """The state in which the only worker is."""
    with database.read() as s:
        fleet = workers.look(s)
    (worker,) = fleet.workers
    return fleet.state_of(worker)


def first_heard(database: Database) -> list[placement.Present]:
    """The workers that are there, once there are any."""
    until = time.monotonic() + 30
    there: list[placement.Present] = []
    while not there and time.monotonic() < until:
        with database.read() as s:
            there = placement.present(s)
    return there
