"""What is left on a machine's disk by jobs that ended, and by attempts that others followed."""

import shutil
from pathlib import Path

from db import orders
from tests.integration.workers.test_recover import change, lose
from tests.integration.workers.workplace import Workplace, wait_until
from workers import leftovers, recover


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


def test_an_attempt_that_began_after_the_look_keeps_its_folder(workplace: Workplace) -> None:
    job_id = workplace.submit_tiny()
    for attempt in (0, 1):
        workplace.settings.run_dir(job_id, attempt).mkdir(parents=True)
    workplace.order(
        orders.pause, job_id
    )  # as it was when it was looked at; it goes on, and its next attempt is laid out
    leftovers.tidy(workplace.database, workplace.settings)
    assert [path.name for path in (workplace.settings.runs_dir / job_id).iterdir()] == ["1"]
