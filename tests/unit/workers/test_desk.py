"""What the desk reads, and the folders of questions that were asked, while others ask."""

import os
from itertools import count
from threading import Event, Thread

from workers.desk import by_use


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
