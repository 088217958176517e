"""What the desk reads, and the folders of questions that were asked, while others ask."""

import os
from itertools import count
from threading import Event, Thread
from typing import Any

from workers import desk
from workers.desk import Desk, by_use
from workers.settings import WorkerSettings
from workers.stage import StagingPlan


def test_the_oldest_used_comes_first_and_files_do_not_count(tmp_path):
    for moment, name in enumerate("cab"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (moment, moment))
    (tmp_path / "log").touch()
    assert [path.name for path in by_use(tmp_path)] == ["c", "a", "b"]


def test_a_folder_that_gets_its_name_meanwhile_does_no_harm(tmp_path):
    """Two answers side by side are laid out at the same time, each under another name until it is whole."""
    (tmp_path / "there").mkdir()
    ended = Event()

    def lay_out() -> None:
        for number in count():
            if ended.is_set():
                return
            fresh = tmp_path / f"fresh.{number}"
            fresh.mkdir()
            fresh.rename(tmp_path / "named")
            (tmp_path / "named").rmdir()

    other = Thread(target=lay_out)
    other.start()
    try:
        for _ in range(3000):
            assert tmp_path / "there" in by_use(tmp_path)
    finally:
        ended.set()
        other.join()


def test_the_run_directory_of_a_question_under_way_is_kept_however_long_ago_it_was_used(tmp_path, monkeypatch):
    monkeypatch.setattr(desk, "_MOST_FOLDERS", 1)
    database: Any = None
    made = Desk(database, WorkerSettings(home=tmp_path, database_url="sqlite://", low_space_bytes=0))
    plans = [StagingPlan({"spec": {"number": number}}, [], {}) for number in range(4)]
    folders = [made._run_dir(planned) for planned in plans]

    def provide(number: int) -> list[bool]:
        made._provide(plans[number], folders[number])
        os.utime(folders[number], (number, number))
        return [folder.exists() for folder in folders]

    with made._using(folders[0]), made._using(folders[0]):
        provide(0)
    with made._using(folders[0]):
        provide(1)
        assert provide(2) == [True, False, True, False]
    assert provide(3) == [False, False, False, True]
