"""The first of those that write a checkpoint waits for the files of the others, as long as there is hope."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.dist.writers import Writers
from engine.errors import TouchLost
from engine.shards import name_of

ENOUGH_S = 60.0


@contextmanager
def other(command: str, folder: Path) -> Iterator[int]:
    """Another writer; its files are there at the end if it writes any."""
    with subprocess.Popen(["sh", "-c", command], cwd=folder) as process:
        yield process.pid
        process.kill()


def with_another(pid: int, folder: Path, timeout_s: float = ENOUGH_S) -> Writers:
    writers = Writers(0, (os.getpid(), pid), timeout_s)
    (folder / writers.name).touch()
    return writers


def test_one_that_writes_and_ends_is_waited_for(tmp_path):
    with other(f"sleep 0.2; touch {name_of(1, 2)}", tmp_path) as pid:
        with_another(pid, tmp_path).wait(tmp_path)
    assert (tmp_path / name_of(1, 2)).exists()


@pytest.mark.parametrize("command", ["exit 1", "kill -9 $$"])
def test_one_that_ends_without_is_named_at_once(tmp_path, command):
    begun_s = time.monotonic()
    with other(command, tmp_path) as pid, pytest.raises(TouchLost, match="rank 1 ended before its part"):
        with_another(pid, tmp_path).wait(tmp_path)
    assert time.monotonic() - begun_s < ENOUGH_S


def test_one_that_hangs_is_waited_for_no_longer_than_any_answer(tmp_path):
    with other("sleep 60", tmp_path) as pid, pytest.raises(TouchLost, match=r"rank 1 has not .* after 0\.2 s"):
        with_another(pid, tmp_path, 0.2).wait(tmp_path)
