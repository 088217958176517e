"""The service's folder."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.home import locked, mark_initialised, prepare, supervisor_pid, write_private

HOLD = "import sys, time; from pathlib import Path; from cli.home import locked\nwith locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRAINYARD_DATABASE_URL", "TRAINYARD_SECRET"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    prepare(folder, folder / "credentials")
    return folder


@pytest.fixture
def holder(home: Path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_folder_is_the_owners_alone_and_its_secret_is_left_to_who_knows_the_database(home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not (home / "secret").exists()


@pytest.mark.parametrize("left", [False, True], ids=["none", "an empty file"])
def test_a_folder_that_lost_its_database_does_not_start_as_a_fresh_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    monkeypatch.setenv("TRAINYARD_SECRET", "of the environment")
    if left:
        (home / "trainyard.db").touch()
    mark_initialised(home, home / "credentials")
    with pytest.raises(CommandError, match=r"has been in use, but trainyard\.db is empty or missing"):
        prepare(home, home / "credentials")


def test_a_home_whose_disk_is_not_mounted_does_not_start_as_a_fresh_one(home: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "config" / "credentials"
    key_file.parent.mkdir()
    mark_initialised(home, key_file)
    home.rename(tmp_path / "unmounted")
    home.mkdir()
    with pytest.raises(CommandError, match="has been in use"):
        prepare(home, key_file)
    assert list(home.iterdir()) == []
    prepare(tmp_path / "another", key_file)


def test_a_database_that_lost_its_secret_is_refused(home: Path) -> None:
    (home / "trainyard.db").write_bytes(b"SQLite")
    mark_initialised(home, home / "credentials")
    with pytest.raises(CommandError, match="secret is empty or missing"):
        prepare(home, home / "credentials")


def test_a_secret_of_the_environment_needs_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "trainyard.db").write_bytes(b"SQLite")
    mark_initialised(home, home / "credentials")
    monkeypatch.setenv("TRAINYARD_SECRET", "of the environment")
    prepare(home, home / "credentials")


def test_a_second_holder_is_refused_and_told_who_holds_it(home: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(CommandError, match=f"already runs from .* \\(pid {holder.pid}\\)"), locked(home):
        pass


def test_the_holder_is_known_while_it_lives_only(home: Path, holder: subprocess.Popen) -> None:
    assert supervisor_pid(home) == holder.pid
    holder.kill()
    holder.wait()
    assert supervisor_pid(home) is None
    with locked(home):
        assert (home / "up.pid").read_text() == str(os.getpid())


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", "ty-1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_pid_is_read_once_it_has_been_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "up.pid").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr("cli.home.time.sleep", lambda _: (home / "up.pid").write_text("4711"))
        assert supervisor_pid(home) == 4711


def test_a_pid_that_is_never_written_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.home.time.sleep", lambda _: None)
    with (home / "up.pid").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="has not written its pid"):
            supervisor_pid(home)


def test_a_reader_of_the_pid_does_not_keep_the_service_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "up.pid").touch()
    with (home / "up.pid").open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        monkeypatch.setattr("cli.home.time.sleep", lambda _: reader.close())
        with locked(home):
            assert (home / "up.pid").read_text() == str(os.getpid())
