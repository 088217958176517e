"""What the reaper brings back."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from db import budgets, evals, files, jobs, leases, logs, orders, outbox
from db.models import Attempt, File
from db.state import JobState
from tests.integration.workers.workplace import Workplace, wait_until
from tests.servers import free_port
from workers import queue, recover, settle


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


def test_an_error_about_one_job_keeps_no_other_from_being_brought_back(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change(workplace, backoff_s=0.0)
    odd, plain = workplace.submit_tiny(), workplace.submit_tiny()
    for job_id in (odd, plain):
        lose(workplace, job_id)
    fail = settle.fail

    def fail_unless_odd(s: Any, job_id: str, *more: Any) -> JobState | None:
        if job_id == odd:
            raise ValueError("odd")
        return fail(s, job_id, *more)

    monkeypatch.setattr(settle, "fail", fail_unless_odd)
    recover.bring_back(workplace.database, workplace.settings)
    assert [workplace.job(job_id).state for job_id in (odd, plain)] == ["preparing", "queued"]
    assert f"job {odd} is left to the next sweep" in caplog.text


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


def test_a_job_that_its_owner_paused_meanwhile_is_not_noted_as_paused_by_the_budget(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = workplace.submit_tiny()
    with workplace.database.write() as s:
        budgets.put(s, workplace.project_id, workplace.project_id, worker_s=0.0)
    overdrawn = budgets.overdrawn

    def overdrawn_before_the_pause(*given: Any) -> list[budgets.Overdrawn]:
        found = overdrawn(*given)
        workplace.order(orders.pause, job_id)
        return found

    monkeypatch.setattr(budgets, "overdrawn", overdrawn_before_the_pause)
    assert recover.hold_overdrawn(workplace.database, workplace.settings) == 0
    assert workplace.records(job_id, "over_budget") == []


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
