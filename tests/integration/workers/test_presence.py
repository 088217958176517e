"""What a worker tells of itself."""

import time

import pytest

from db import placement
from db.session import Database
from workers import machine
from workers.presence import Presence
from workers.settings import WorkerSettings


@pytest.mark.parametrize("at_once", [1, 2])
def test_processes_that_take_jobs_side_by_side_share_the_machines_memory(database: Database, at_once: int) -> None:
    settings = WorkerSettings(worker_concurrency=at_once, worker_labels={"zone": "a"})
    presence = Presence(database, "one", settings)
    presence.start()
    try:
        until = time.monotonic() + 30
        there: list[placement.Present] = []
        while not there and time.monotonic() < until:
            with database.read() as s:
                there = placement.present(s)
    finally:
        presence.leave()
    (told,) = there
    assert (told.name, told.labels["zone"], told.memory_bytes) == ("one", "a", machine.device().memory_bytes // at_once)
    with database.read() as s:
        assert placement.present(s) == []
