"""Backups on both databases, and from one to the other."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, update

from api.bootstrap import bootstrap
from api.settings import ApiSettings
from db import backup, installation, jobs, migrate, projects, verify
from db.errors import BlobsUnavailable
from db.models import Row
from db.session import Database
from db.settings import StorageSettings
from tests.integration.db.test_migrations import fill
from tests.servers import S3, Postgres


def in_use(settings: StorageSettings) -> StorageSettings:
    """A home with a row in every table, and the one file that they all name."""
    settings.home.mkdir()
    (settings.home / "secret").write_text("of the keys")
    migrate.upgrade(settings.database_url)
    fill(settings.database_url)
    with settings.open_blobs(low_space_bytes=0).writer() as writer:
        writer.write(b"rows")
        sha256 = writer.commit().sha256
    database = Database(settings.database_url)
    with database.write() as s:
        for table in Row.metadata.sorted_tables:
            if "sha256" in table.columns:
                s.execute(update(table).values(sha256=sha256))
    database.close()
    return settings


def rows(settings: StorageSettings) -> dict[str, list[tuple[Any, ...]]]:
    """All but the name of the installation, which a backup does not bring along."""
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in Row.metadata.sorted_tables
            if table.name != "installations"
        }
    engine.dispose()
    return found


def conditions(settings: StorageSettings) -> list[str]:
    database = Database(settings.database_url)
    found = [look.condition for look in verify.look_at_all(database, settings.open_blobs(low_space_bytes=0))]
    database.close()
    return found


@pytest.fixture
def settings(tmp_path: Path, empty_database_url: str) -> StorageSettings:
    return in_use(StorageSettings(home=tmp_path / "home", database_url=empty_database_url))


def elsewhere(tmp_path: Path) -> StorageSettings:
    """An empty home with a database of its own."""
    return StorageSettings(home=tmp_path / "elsewhere")


def test_a_restored_backup_has_every_row_and_every_file(settings: StorageSettings, tmp_path: Path):
    told = backup.save(settings, tmp_path / "backup")
    assert told["blobs"] == 1
    restored = elsewhere(tmp_path)
    before = rows(settings)
    shutil.rmtree(settings.home / "blobs")
    backup.restore(restored, tmp_path / "backup")
    assert rows(restored) == before
    assert conditions(restored) == ["sound"]
    assert (restored.home / "secret").read_text() == "of the keys"


@pytest.mark.postgres
def test_a_backup_is_restored_into_postgresql_and_numbers_go_on(tmp_path: Path, postgres: Postgres):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    restored = StorageSettings(home=tmp_path / "elsewhere", database_url=postgres.create(empty=True))
    backup.restore(restored, tmp_path / "backup")
    assert rows(restored) == rows(settings)
    migrate.check(restored.database_url)
    database = Database(restored.database_url)
    with database.write() as s:
        project = projects.by_name(s, "default")
        assert project is not None
        jobs.create(s, [jobs.NewJob(project.id, {}, "sft", 0)])  # with a message, which takes the next number
    database.close()
    postgres.drop(restored.database_url)


def test_a_backup_made_while_others_write_is_of_one_moment(settings: StorageSettings, tmp_path: Path):
    ended = threading.Event()
    database = Database(settings.database_url)
    with database.read() as s:
        project = projects.by_name(s, "default")
    assert project is not None

    def submit() -> None:
        while not ended.is_set():
            with database.write() as s:
                jobs.create(s, [jobs.NewJob(project.id, {}, "sft", 0)])

    thread = threading.Thread(target=submit)
    thread.start()
    backup.save(settings, tmp_path / "backup")
    ended.set()
    thread.join()
    database.close()
    backup.restore(elsewhere(tmp_path), tmp_path / "backup")
    saved = rows(elsewhere(tmp_path))
    assert {job[0] for job in saved["jobs"]} == {event[0] for event in saved["events"]}


def test_the_files_of_a_bucket_stay_there(s3: S3, tmp_path: Path):
    where = s3.settings(tmp_path.name)
    backup.save(in_use(StorageSettings(home=tmp_path / "home", **where)), tmp_path / "backup")
    assert not (tmp_path / "backup/blobs").exists()
    restored = StorageSettings(home=tmp_path / "elsewhere", **where)
    backup.restore(restored, tmp_path / "backup")
    assert conditions(restored) == ["sound"]


def test_it_is_told_that_the_files_of_a_bucket_are_not_in_the_backup(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    where = s3.settings(tmp_path.name)
    in_use(StorageSettings(home=tmp_path / "home", **where))
    for name, value in {"home": str(tmp_path / "home"), **where}.items():
        monkeypatch.setenv(f"TRAINYARD_{name.upper()}", value)
    assert backup.main(["save", str(tmp_path / "backup")]) == 0
    assert f"stay in {where['blobs']} and are not copied" in capsys.readouterr().out


def standing(settings: StorageSettings) -> installation.Standing:
    database = Database(settings.database_url)
    found = installation.claim(database, settings.open_blobs(low_space_bytes=0))
    database.close()
    return found


def test_the_files_of_a_bucket_stay_those_of_the_installation_that_was_saved(s3: S3, tmp_path: Path):
    where = s3.settings(tmp_path.name)
    saved = in_use(StorageSettings(home=tmp_path / "home", **where))
    backup.save(saved, tmp_path / "backup")
    restored = StorageSettings(home=tmp_path / "elsewhere", **where)
    backup.restore(restored, tmp_path / "backup")
    assert not standing(restored).ours
    assert standing(saved).ours


@pytest.mark.parametrize("other", ["disk", "bucket"])
def test_a_restore_without_the_bucket_that_holds_the_files_is_refused(s3: S3, tmp_path: Path, other: str):
    where = s3.settings(tmp_path.name)
    backup.save(in_use(StorageSettings(home=tmp_path / "home", **where)), tmp_path / "backup")
    changes = s3.settings("another") if other == "bucket" else {}
    restored = StorageSettings(home=tmp_path / "elsewhere", **changes)
    with pytest.raises(ValueError, match=f"TRAINYARD_BLOBS={where['blobs']}") as refused:
        backup.restore(restored, tmp_path / "backup")
    assert str(restored.blobs or restored.blobs_dir) in str(refused.value)
    assert not restored.home.exists()


def test_to_ask_whose_the_files_are_claims_nothing(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("home", "database_url"):
        monkeypatch.setenv(f"TRAINYARD_{name.upper()}", str(getattr(settings, name)))
    assert installation.main(["show"]) == 0
    assert "belongs to no installation yet" in capsys.readouterr().out
    assert settings.open_blobs(low_space_bytes=0).owner() is None


@pytest.mark.parametrize("look", [lambda: installation.main(["show"]), verify.main])
def test_a_look_at_a_new_home_finds_nothing_and_makes_nothing(
    tmp_path: Path, look: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path))
    assert look() == 0
    assert capsys.readouterr().out == "nothing is stored yet\n"
    assert list(tmp_path.iterdir()) == []


def test_restored_files_of_a_disk_are_those_of_the_new_installation(settings: StorageSettings, tmp_path: Path):
    before = standing(settings)
    backup.save(settings, tmp_path / "backup")
    backup.restore(elsewhere(tmp_path), tmp_path / "backup")
    assert standing(elsewhere(tmp_path)).ours
    assert standing(elsewhere(tmp_path)).own_id != before.own_id


def test_a_restore_that_was_cut_short_starts_nothing_and_can_be_run_again(tmp_path: Path, empty_database_url: str):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    (blob,) = (tmp_path / "backup/blobs").glob("??/??/*")
    blob.rename(tmp_path / "aside")
    restored = StorageSettings(home=tmp_path / "elsewhere", database_url=empty_database_url)
    with pytest.raises(ValueError, match="is not stored"):
        backup.restore(restored, tmp_path / "backup")
    if "postgresql" in empty_database_url:
        migrate.upgrade(empty_database_url)  # as far as a restore comes before its rows
    with pytest.raises(ValueError, match="was cut short: run `trainyard restore` again"):
        bootstrap(ApiSettings(), restored, tmp_path / "key")
    (tmp_path / "aside").rename(blob)
    backup.restore(restored, tmp_path / "backup")
    assert rows(restored) == rows(settings)
    assert conditions(restored) == ["sound"]
    bootstrap(ApiSettings(), restored, tmp_path / "key")


KILLED_AT_THE_END = f"""
import os, sys
from db import backup
sys.addaudithook(lambda event, told: event == "os.remove" and str(told[0]).endswith("{backup.CUT}") and os.kill(os.getpid(), 9))
backup.main(sys.argv[1:])
"""


def test_a_restore_that_was_killed_once_all_was_there_is_ended_by_the_next(tmp_path: Path, empty_database_url: str):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    restored = StorageSettings(home=tmp_path / "elsewhere", database_url=empty_database_url)
    where = {"TRAINYARD_HOME": str(restored.home), "TRAINYARD_DATABASE_URL": restored.database_url}
    command = [sys.executable, "-c", KILLED_AT_THE_END, "restore", str(tmp_path / "backup")]
    killed = subprocess.run(command, env={**os.environ, **where}, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="was cut short: run `trainyard restore` again"):
        bootstrap(ApiSettings(), restored, tmp_path / "key")
    backup.restore(restored, tmp_path / "backup")
    assert rows(restored) == rows(settings)
    assert conditions(restored) == ["sound"]
    assert not list(tmp_path.rglob("*.part*"))
    bootstrap(ApiSettings(), restored, tmp_path / "key")


def test_a_restore_that_was_cut_short_does_not_take_another_database_for_its_own(settings: StorageSettings):
    folder = settings.home.parent / "backup"
    backup.save(settings, folder)
    (blob,) = (folder / "blobs").glob("??/??/*")
    blob.unlink()
    home = settings.home.with_name("elsewhere")
    with pytest.raises(ValueError, match="is not stored"):
        backup.restore(StorageSettings(home=home), folder)
    with pytest.raises(ValueError, match="already"):
        backup.restore(StorageSettings(home=home, database_url=settings.database_url), folder)
    assert (home / backup.CUT).exists()


def test_a_backup_goes_into_a_bucket_too(s3: S3, tmp_path: Path):
    backup.save(in_use(StorageSettings(home=tmp_path / "home")), tmp_path / "backup")
    restored = StorageSettings(home=tmp_path / "elsewhere", **s3.settings(tmp_path.name))
    backup.restore(restored, tmp_path / "backup")
    assert conditions(restored) == ["sound"]


def test_a_home_that_is_in_use_is_not_restored_over(tmp_path: Path):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    with pytest.raises(ValueError, match="not empty"):
        backup.restore(settings, tmp_path / "backup")


@pytest.mark.postgres
def test_a_database_that_is_in_use_is_not_restored_over(tmp_path: Path, postgres: Postgres):
    settings = in_use(StorageSettings(home=tmp_path / "home", database_url=postgres.create(empty=True)))
    backup.save(settings, tmp_path / "backup")
    with pytest.raises(ValueError, match="has tables"):
        backup.restore(settings.model_copy(update={"home": tmp_path / "elsewhere"}), tmp_path / "backup")
    postgres.drop(settings.database_url)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_a_database_file_outside_the_home_is_not_restored_over(tmp_path: Path, ending: str):
    backup.save(in_use(StorageSettings(home=tmp_path / "home")), tmp_path / "backup")
    there = tmp_path / f"other.db{ending}"
    there.write_bytes(b"in use")
    settings = StorageSettings(home=tmp_path / "elsewhere", database_url=f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(ValueError, match="is there already"):
        backup.restore(settings, tmp_path / "backup")
    assert there.read_bytes() == b"in use"
    assert not settings.home.exists()


def test_a_backup_of_an_older_schema_is_restored_to_the_newest(tmp_path: Path, empty_database_url: str):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    migrate.downgrade(f"sqlite:///{tmp_path / 'backup/trainyard.db'}", "0006_plans")
    restored = StorageSettings(home=tmp_path / "elsewhere", database_url=empty_database_url)
    backup.restore(restored, tmp_path / "backup")
    assert migrate.current(restored.database_url) == migrate.head()
    assert rows(restored)["artifacts"] == rows(settings)["artifacts"]
    assert conditions(restored) == ["sound"]


def test_a_backup_that_was_not_finished_is_refused(tmp_path: Path):
    backup.save(in_use(StorageSettings(home=tmp_path / "home")), tmp_path / "backup")
    (tmp_path / "backup/backup.json").unlink()
    with pytest.raises(ValueError, match="no finished backup"):
        backup.restore(elsewhere(tmp_path), tmp_path / "backup")


def test_a_missing_file_is_told_rather_than_left_out(tmp_path: Path):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    shutil.rmtree(settings.home / "blobs")
    with pytest.raises(BlobsUnavailable, match="not mounted"):
        backup.save(settings, tmp_path / "backup")
    with settings.open_blobs(low_space_bytes=0).writer() as writer:
        writer.write(b"others")
        writer.commit()
    with pytest.raises(ValueError, match="trainyard doctor"):
        backup.save(settings, tmp_path / "another")
    with pytest.raises(ValueError, match="another holds a backup that was interrupted"):
        backup.save(settings, tmp_path / "another")


def test_a_file_that_goes_while_it_is_saved_is_told_with_the_setting_that_keeps_it(settings: StorageSettings):
    (path,) = (settings.home / "blobs").glob("??/??/*")
    path.unlink()
    with pytest.raises(ValueError, match="TRAINYARD_KEEP_BLOBS_S"):
        backup.save(settings, settings.home.parent / "backup")


@pytest.mark.parametrize("verb", ["save", "restore"])
def test_what_the_system_refuses_is_reported_with_the_folder(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    backup.save(settings, tmp_path / "backup")
    (tmp_path / "file").touch()
    home, folder = settings.home, tmp_path / "file/backup"
    if verb == "restore":
        home, folder = tmp_path / "file/home", tmp_path / "backup"
    monkeypatch.setenv("TRAINYARD_HOME", str(home))
    assert backup.main([verb, str(folder)]) == 1
    assert f"{folder} could not be" in capsys.readouterr().err


def test_a_database_that_is_none_is_reported_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    (settings.home / "trainyard.db").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("TRAINYARD_HOME", str(settings.home))
    assert backup.main(["save", str(tmp_path / "backup")]) == 1
    assert f"{tmp_path / 'backup'} could not be written: file is not a database" in capsys.readouterr().err


def test_a_database_without_a_schema_is_not_saved(tmp_path: Path, empty_database_url: str):
    home = tmp_path / "home"
    with pytest.raises(ValueError, match="nothing to save"):
        backup.save(StorageSettings(home=home, database_url=empty_database_url), tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [[], ["trainyard.db"]])
def test_a_home_whose_disk_is_not_mounted_is_not_saved_and_stays_as_it_is(tmp_path: Path, left: list[str]):
    home = tmp_path / "home"
    home.mkdir()
    for name in left:
        (home / name).touch()
    with pytest.raises(ValueError, match="Is its disk not mounted"):
        backup.save(StorageSettings(home=home), tmp_path / "backup")
    assert {path.name: path.stat().st_size for path in home.iterdir()} == dict.fromkeys(left, 0)
    assert not (tmp_path / "backup").exists()


def test_a_disk_of_its_own_is_as_good_as_an_empty_folder(settings: StorageSettings, tmp_path: Path):
    for name in ("backup", "elsewhere"):
        (tmp_path / name / "lost+found").mkdir(parents=True)
    backup.save(settings, tmp_path / "backup")
    backup.restore(elsewhere(tmp_path), tmp_path / "backup")
    assert rows(elsewhere(tmp_path)) == rows(settings)


@pytest.mark.parametrize(("where", "told"), [("home", False), ("environment", True)])
def test_it_is_told_that_a_secret_of_the_environment_is_not_in_the_backup(
    tmp_path: Path, where: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    if where == "environment":
        (settings.home / "secret").unlink()
        monkeypatch.setenv("TRAINYARD_SECRET", "of the keys")
    for verb, home in (("save", settings.home), ("restore", tmp_path / "elsewhere")):
        monkeypatch.setenv("TRAINYARD_HOME", str(home))
        assert backup.main([verb, str(tmp_path / "backup")]) == 0
        assert ("TRAINYARD_SECRET" in capsys.readouterr().out) is told
