"""A look at every stored file."""

import shutil
from pathlib import Path

import pytest

from db import verify
from db.settings import StorageSettings
from tests.integration.db.test_backup import conditions, in_use


@pytest.fixture
def settings(tmp_path: Path) -> StorageSettings:
    return in_use(StorageSettings(home=tmp_path / "home"))


def test_damaged_and_missing_files_are_told_apart(settings: StorageSettings):
    (path,) = (settings.home / "blobs").glob("??/??/*")
    path.chmod(0o600)
    path.write_bytes(b"rose")
    assert conditions(settings) == ["damaged"]
    path.unlink()
    assert conditions(settings) == ["missing"]


def test_a_file_that_cannot_be_read_does_not_end_the_look_at_the_others(settings: StorageSettings):
    (path,) = (settings.home / "blobs").glob("??/??/*")
    path.unlink()
    path.mkdir()
    assert conditions(settings) == ["unreadable"]


def test_what_is_amiss_is_told_with_the_file_that_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    settings = in_use(StorageSettings(home=tmp_path / "home"))
    monkeypatch.setenv("TRAINYARD_HOME", str(settings.home))
    assert verify.main() == 0
    shutil.rmtree(settings.home / "blobs")
    assert verify.main() == 1
    told = capsys.readouterr().out
    assert f"missing {settings.home}/blobs/" in told
    assert "file-" in told
    assert "Mend: remove" in told
