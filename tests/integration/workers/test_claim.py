"""A lease: renewed while it can be, and the engine stopped before it ends."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from db import leases, records
from db.session import Session
from engine import deadline
from tests.integration.workers.puppets import lose_every_other_answer
from tests.integration.workers.workplace import Workplace, wait_until
from tests.servers import Postgres
from workers import gang
from workers.claim import LeaseLostError


def test_a_job_is_claimed_once(workplace: Workplace) -> None:
    workplace.submit_tiny()
    first = gang.take(workplace.database, "one", workplace.settings)
    second = gang.take(workplace.database, "two", workplace.settings)
    assert first is not None
    assert second is None


def test_of_many_that_claim_at_once_one_gets_the_job(workplace: Workplace) -> None:
    workplace.submit_tiny()
    together = threading.Barrier(8)
    got: list[str] = []

    def take(worker: str) -> None:
        together.wait()
        if gang.take(workplace.database, worker, workplace.settings) is not None:
            got.append(worker)

    threads = [threading.Thread(target=take, args=(f"worker {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_lease_is_renewed_though_nothing_happens(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, lease_s=1.0, heartbeat_s=0.2) as lease:
        time.sleep(1.6)
        assert not lease.lost.is_set()
        with workplace.database.read() as s:
            assert leases.expired(s, 10) == []


def test_a_cancel_is_seen_at_the_heartbeat(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:
        assert not lease.cancel_requested.is_set()
        workplace.cancel(job_id)
        assert lease.cancel_requested.wait(5)


def test_a_job_that_was_given_to_another_is_lost_at_the_heartbeat(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    stopped = threading.Event()
    with workplace.claim(job_id, heartbeat_s=0.1) as lease:
        lease.stop_on_loss(stopped.set)
        with workplace.database.write() as s:
            leases.expire_worker(s, "tester")
        assert stopped.wait(5)
        with pytest.raises(LeaseLostError):
            lease.write(lambda _: None)


def test_a_job_whose_beginning_was_committed_unheard_runs(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = workplace.submit_tiny()
    lease = workplace.claim(job_id)
    lose_every_other_answer(workplace.database, monkeypatch)
    lease.begin_running()
    assert workplace.job(job_id).state == "running"
    told = [(record.data or {}).get("state") for record in workplace.records(job_id, "state")]
    assert told.count("running") == 1


def test_the_deadline_of_a_run_moves_on_with_its_lease_and_lies_before_its_end(
    workplace: Workplace, tmp_path: Path
) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, lease_s=2.0, heartbeat_s=0.2) as lease:
        lease.bind(tmp_path)
        first = (tmp_path / "deadline").stat().st_mtime
        wait_until(lambda: (tmp_path / "deadline").stat().st_mtime > first, "moved on")
        ends_at = workplace.job(job_id).lease_expires_at
        assert ends_at is not None
        left_s = ends_at - time.time()
        assert 0 < (tmp_path / "deadline").stat().st_mtime - deadline.now_s() < left_s


def test_what_was_begun_under_the_lease_and_is_not_done_at_its_end_is_taken_back(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    lease = workplace.claim(job_id, lease_s=0.5)

    def stand_still(s: Session) -> None:
        records.note(s, job_id, "log", "info", "too late")
        time.sleep(0.6)

    with pytest.raises(LeaseLostError):
        lease.write(stand_still)
    assert workplace.records(job_id, "log") == []


def test_letting_the_job_go_is_not_a_loss(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id, heartbeat_s=0.05) as lease:

        def release(s: Session) -> bool:
            return leases.release(s, job_id, lease.fence, outcome="stopped", message="")

        lease.write(release, last=True)
        time.sleep(0.3)
        assert not lease.lost.is_set()


def test_the_engine_is_stopped_before_the_lease_ends_when_the_database_hangs(
    tmp_path: Path, sqlite_template: Path
) -> None:
    path = tmp_path / "trainyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    place = Workplace(tmp_path / "home", f"sqlite:///{path}")
    job_id = place.submit_tiny()
    stopped_at: list[float] = []
    other = sqlite3.connect(path, isolation_level=None)
    with place.claim(job_id, lease_s=2.0, heartbeat_s=0.2) as lease:
        lease.stop_on_loss(lambda: stopped_at.append(time.monotonic()))
        other.execute("BEGIN IMMEDIATE")  # every renewal waits for this writer
        held_at = time.monotonic()
        wait_until(lambda: bool(stopped_at), "stopped")
        other.execute("ROLLBACK")
    other.close()
    place.close()
    assert stopped_at[0] - held_at < 2.0


@pytest.mark.postgres
def test_a_short_outage_of_the_database_is_sat_out(tmp_path: Path) -> None:
    server = Postgres()
    place = Workplace(tmp_path / "home", server.create())
    job_id = place.submit_tiny()
    with place.claim(job_id, lease_s=20.0, heartbeat_s=0.2) as lease:
        server.stop()
        patient = threading.Thread(target=lease.begin_running)
        patient.start()
        time.sleep(1.0)
        server.start()
        patient.join()
        assert not lease.lost.is_set()
    assert place.job(job_id).state == "running"
    place.close()
    server.close()


@pytest.mark.postgres
def test_the_engine_is_stopped_before_the_lease_ends_when_the_database_is_away(tmp_path: Path) -> None:
    server = Postgres()
    place = Workplace(tmp_path / "home", server.create())
    job_id = place.submit_tiny()
    stopped_at: list[float] = []
    with place.claim(job_id, lease_s=2.0, heartbeat_s=0.2) as lease:
        lease.stop_on_loss(lambda: stopped_at.append(time.monotonic()))
        server.kill()
        gone_at = time.monotonic()  # whatever was renewed, was so before
        wait_until(lambda: bool(stopped_at), "stopped")
        assert stopped_at[0] - gone_at < 2.0
    place.close()
    server.close()
