"""What the reaper brings back."""

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from db import budgets, evals, files, jobs, leases, logs, orders, outbox
from db.models import Attempt, File
from db.state import JobState
from tests.integration.workers.workplace import Workplace, wait_until
from tests.servers import free_port
from workers import leftovers, queue, recover


def change(workplace: Workplace, **settings: Any) -> None:
    workplace.settings = workplace.settings.model_copy(update=settings)


def lose(workplace: Workplace, job_id: str) -> None:
    """A worker claims the job and is never heard of again."""
    with workplace.database.write() as s:
        assert leases.claim(s, job_id, worker="lost", lease_s=60) is not None
        leases.expire_worker(s, "lost")


def send_all(workplace: Workplace) -> list[str]:
    with workplace.database.write() as s:
        due = outbox.pending(s, 100)
        outbox.mark_sent(s, [row.id for row in due])
    return [row.job_id for row in due]


def begin_eval_run(workplace: Workplace, file_id: str) -> None:
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}
    with workplace.database.write() as s:
        made = evals.add(s, workplace.project_id, "eval", {})
        evals.add_run(s, made, "run", {"data_source": source, "testing_criteria": []})


def stored(workplace: Workplace, file_id: str) -> bool:
    with workplace.database.read() as s:
        return files.get(s, workplace.project_id, file_id) is not None


@contextmanager
def reaping(workplace: Workplace) -> Iterator[None]:
    """The reaper sweeps meanwhile."""
    ended = threading.Event()
    reaper = threading.Thread(target=recover.run, args=(workplace.database, workplace.settings, ended))
    reaper.start()
    try:
        yield
    finally:
        ended.set()
        reaper.join(20)
    assert not reaper.is_alive()


def test_a_job_whose_lease_ran_out_is_queued_again(workplace: Workplace) -> None:
    change(workplace, backoff_s=0.0)
    job_id = workplace.submit_tiny()
    send_all(workplace)
    lose(workplace, job_id)
    assert recover.bring_back(workplace.database, workplace.settings) == 1
    assert workplace.job(job_id).state == "queued"
    assert send_all(workplace) == [job_id]
    assert workplace.attempts(job_id)[0].failure_class == "worker_lost"


def test_a_live_lease_is_left_alone(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with workplace.claim(job_id):
        assert recover.bring_back(workplace.database, workplace.settings) == 0
    assert workplace.job(job_id).state == "preparing"


def test_a_job_that_loses_every_worker_fails_in_the_end(workplace: Workplace) -> None:
    change(workplace, max_attempts=2, backoff_s=0.0)
    job_id = workplace.submit_tiny()
    for _ in range(2):
        lose(workplace, job_id)
        recover.bring_back(workplace.database, workplace.settings)
    job = workplace.job(job_id)
    assert (job.state, job.failure_class, job.error_code) == ("failed", "worker_lost", "worker_lost")
    told = [record.message for record in workplace.records(job_id, "state") if "tried again" in (record.message or "")]
    assert len(told) == 1
    assert "tried again" not in f"{job.error_message} {job.error_mend}"


def test_a_job_that_was_to_be_cancelled_when_its_worker_was_lost_is_cancelled(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    lose(workplace, job_id)
    workplace.cancel(job_id)
    recover.bring_back(workplace.database, workplace.settings)
    assert workplace.job(job_id).state == "cancelled"


def test_jobs_whose_budget_is_used_up_save_and_pause_and_say_why(workplace: Workplace) -> None:
    change(workplace, price_per_hour=36.0)
    running, waiting = workplace.submit_tiny(), workplace.submit_tiny()
    with workplace.database.write() as s:
        budgets.put(s, workplace.project_id, workplace.project_id, money=1.0)
        claim = leases.claim(s, running, worker="w", lease_s=60)
        assert claim is not None
        leases.begin_running(s, running, claim.fence)
    assert recover.hold_overdrawn(workplace.database, workplace.settings) == 0
    with workplace.database.write() as s:
        s.get_one(Attempt, (running, 1)).started_at -= 120
    assert recover.hold_overdrawn(workplace.database, workplace.settings) == 2
    assert [workplace.job(job_id).state for job_id in (running, waiting)] == ["pausing", "paused"]
    (told,) = workplace.records(running, "over_budget")
    assert f"the budget of money of {workplace.project_id} for this month, 1.00, is used up" in (told.message or "")
    assert recover.hold_overdrawn(workplace.database, workplace.settings) == 0


def test_a_budget_that_is_used_up_says_nothing_of_jobs_that_were_asked_to_stop(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job_id = workplace.submit_tiny()
    with workplace.database.write() as s:
        budgets.put(s, workplace.project_id, workplace.project_id, worker_s=0.0)
    with workplace.claim(job_id) as lease:
        lease.begin_running()
        workplace.cancel(job_id)
        assert recover.hold_overdrawn(workplace.database, workplace.settings) == 0
    assert workplace.records(job_id, "over_budget") == []
    assert "is paused" not in caplog.text


def test_the_queue_is_not_ranked_while_no_running_job_could_make_way(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(workplace, preempt_after_s=0.0)
    written: list[int] = []
    write = workplace.database.write

    def counted() -> AbstractContextManager[Any]:
        written.append(1)
        return write()

    running = workplace.submit_tiny()
    with workplace.claim(running) as lease:
        lease.begin_running()
        workplace.submit_tiny()
        monkeypatch.setattr(workplace.database, "write", counted)
        assert recover.make_way(workplace.database, workplace.settings) is None
        assert written == []
        workplace.submit_tiny(resources={"priority": 5})
        recover.make_way(workplace.database, workplace.settings)
        assert len(written) > 1


def test_a_message_that_nobody_acted_on_is_sent_again(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    assert send_all(workplace) == [job_id]
    change(workplace, redispatch_after_s=0.01)
    time.sleep(0.05)
    assert recover.redispatch(workplace.database, workplace.settings, lambda: 0) == 1
    assert send_all(workplace) == [job_id]


def test_no_message_is_sent_again_while_the_broker_has_one_for_every_waiting_job(
    workplace: Workplace, broker_url: str
) -> None:
    change(workplace, redispatch_after_s=0.01)
    for _ in range(3):
        workplace.submit_tiny()
    sent = send_all(workplace)
    time.sleep(0.05)
    with queue.connect(broker_url) as connection:
        counted = []
        for job_id in [*sent, None]:
            counted.append(recover.redispatch(workplace.database, workplace.settings, lambda: queue.length(connection)))
            if job_id is not None:
                queue.enqueue([(job_id, len(counted))], connection)
    assert counted == [3, 2, 1, 0]


def test_nothing_is_sent_again_while_the_broker_is_away(workplace: Workplace) -> None:
    change(workplace, redispatch_after_s=0.01)
    workplace.submit_tiny()
    send_all(workplace)
    time.sleep(0.05)

    def away() -> int:
        with queue.connect("redis://127.0.0.1:1/0") as connection:
            return queue.length(connection)

    assert recover.redispatch(workplace.database, workplace.settings, away) == 0


def test_a_message_that_was_just_sent_is_given_its_time(workplace: Workplace) -> None:
    workplace.submit_tiny()
    send_all(workplace)
    assert recover.redispatch(workplace.database, workplace.settings, lambda: 0) == 0


def test_the_run_directory_of_an_ended_job_is_removed_after_its_time(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    run_dir = workplace.settings.run_dir(job_id, 0)
    run_dir.mkdir(parents=True)
    workplace.cancel(job_id)
    assert leftovers.tidy(workplace.database, workplace.settings) == 0
    assert run_dir.exists()
    change(workplace, keep_runs_s=0.0)
    assert leftovers.tidy(workplace.database, workplace.settings) == 1
    assert not run_dir.parent.exists()


def test_the_run_directory_of_an_ended_job_is_removed_at_once_while_the_disk_is_low(workplace: Workplace) -> None:
    ended, waiting = workplace.submit_tiny(), workplace.submit_tiny()
    for job_id in (ended, waiting):
        workplace.settings.run_dir(job_id, 0).mkdir(parents=True)
    workplace.cancel(ended)
    change(workplace, low_space_bytes=1 << 62)
    assert leftovers.tidy(workplace.database, workplace.settings) == 1
    assert [path.name for path in workplace.settings.runs_dir.iterdir()] == [waiting]


def test_a_worker_without_a_reaper_tidies_its_own_disk(tmp_path: Path, sqlite_template: Path, broker_url: str) -> None:
    shutil.copy(sqlite_template, tmp_path / "trainyard.db")
    place = Workplace(tmp_path, f"sqlite:///{tmp_path}/trainyard.db", keep_runs_s=0.0, warm_engines=0)
    job_id = place.submit_tiny()
    place.settings.run_dir(job_id, 0).mkdir(parents=True)
    place.cancel(job_id)
    with place.process("workers", broker_url):
        wait_until(lambda: not (place.settings.runs_dir / job_id).exists(), "the folder is removed")
    place.close()


def test_what_the_reaper_logs_of_a_job_has_its_ids(workplace: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(logs.JsonLines())
    job_id = workplace.submit_tiny()
    lose(workplace, job_id)
    recover.bring_back(workplace.database, workplace.settings)
    (line,) = [json.loads(line) for line in caplog.text.splitlines() if "was lost" in line]
    assert (line["job_id"], line["attempt"]) == (job_id, 1)


def test_a_disk_that_cannot_be_tidied_does_not_keep_jobs_from_being_brought_back(workplace: Workplace) -> None:
    change(workplace, backoff_s=0.0)
    (workplace.settings.blobs_dir / "00").write_text("where a folder belongs")
    job_id = workplace.submit_tiny()
    stray = workplace.settings.runs_dir / job_id
    stray.parent.mkdir(parents=True)
    stray.write_text("where a folder belongs")
    with reaping(workplace):
        time.sleep(1.5)
        lose(workplace, job_id)
        workplace.wait(job_id, "queued", timeout_s=10)


def test_a_bucket_that_is_away_holds_up_neither_leases_nor_expiry(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.bucket._GIVE_UP_AFTER", timedelta(seconds=0.1))
    job_id, over = workplace.submit_tiny(), workplace.upload("over")
    begin_eval_run(workplace, workplace.upload('{"item": {}}'))
    with workplace.database.write() as s:
        s.get_one(File, over).expires_at = time.time() - 1
    lose(workplace, job_id)
    change(
        workplace, backoff_s=0.0, blobs="s3://away", s3_endpoint=f"http://127.0.0.1:{free_port()}",
        s3_access_key_id="key", s3_secret_access_key=SecretStr("secret"),
    )  # fmt: skip
    with reaping(workplace):
        workplace.wait(job_id, "queued", timeout_s=10)
        wait_until(lambda: not stored(workplace, over), "the file is deleted", 10)


@contextmanager
def silent_bucket() -> Iterator[tuple[int, threading.Event]]:
    """A port that takes connections and never answers, and an event that tells of the first."""
    reached = threading.Event()
    taken: list[socket.socket] = []

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                reached.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=take)
        thread.start()
        yield server.getsockname()[1], reached
        server.shutdown(socket.SHUT_RDWR)
        for one in taken:
            one.close()
    thread.join()


def test_a_lost_lease_is_brought_back_while_the_bucket_blocks(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    with silent_bucket() as (port, reached):
        change(
            workplace, backoff_s=0.0, blobs="s3://silent", s3_endpoint=f"http://127.0.0.1:{port}",
            s3_access_key_id="key", s3_secret_access_key=SecretStr("secret"),
        )  # fmt: skip
        with reaping(workplace):
            assert reached.wait(30)
            lose(workplace, job_id)
            workplace.wait(job_id, "queued", timeout_s=10)


def test_a_ballast_that_cannot_be_taken_does_not_end_the_reaper(workplace: Workplace) -> None:
    change(workplace, backoff_s=0.0, ballast_bytes=1 << 20)
    (workplace.home / "ballast.part").mkdir()
    job_id = workplace.submit_tiny()
    lose(workplace, job_id)
    with reaping(workplace):
        workplace.wait(job_id, "queued", timeout_s=10)


def test_of_a_job_that_goes_on_only_the_present_attempt_is_kept(workplace: Workplace) -> None:
    change(workplace, backoff_s=0.0)
    job_id = workplace.submit_tiny()
    lose(workplace, job_id)
    recover.bring_back(workplace.database, workplace.settings)
    for attempt in (1, 2):
        workplace.settings.run_dir(job_id, attempt).mkdir(parents=True)
    with workplace.claim(job_id):
        leftovers.tidy(workplace.database, workplace.settings)
    assert [path.name for path in (workplace.settings.runs_dir / job_id).iterdir()] == ["2"]


def test_of_a_paused_job_no_run_directory_is_kept(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    workplace.settings.run_dir(job_id, 0).mkdir(parents=True)
    workplace.order(orders.pause, job_id)
    leftovers.tidy(workplace.database, workplace.settings)
    assert not (workplace.settings.runs_dir / job_id).exists()


def test_a_folder_that_is_no_job_of_this_database_is_left_alone(workplace: Workplace) -> None:
    change(workplace, keep_runs_s=0.0)
    stranger = workplace.settings.runs_dir / "job-stranger" / "1"
    stranger.mkdir(parents=True)
    leftovers.tidy(workplace.database, workplace.settings)
    assert stranger.exists()


def test_a_worker_that_starts_frees_what_its_earlier_life_held(workplace: Workplace) -> None:
    change(workplace, backoff_s=0.0)
    job_id = workplace.submit_tiny()
    with workplace.database.write() as s:
        leases.claim(s, job_id, worker="restarted", lease_s=60)
    with workplace.database.write() as s:
        assert leases.expire_worker(s, "restarted") == 1
    recover.bring_back(workplace.database, workplace.settings)
    with workplace.database.read() as s:
        job = jobs.find(s, job_id)
    assert job is not None
    assert job.state == JobState.QUEUED


def test_an_attempt_that_began_after_the_look_keeps_its_folder(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    for attempt in (0, 1):
        workplace.settings.run_dir(job_id, attempt).mkdir(parents=True)
    workplace.order(
        orders.pause, job_id
    )  # as it was when it was looked at; it goes on, and its next attempt is laid out
    leftovers.tidy(workplace.database, workplace.settings)
    assert [path.name for path in (workplace.settings.runs_dir / job_id).iterdir()] == ["1"]
