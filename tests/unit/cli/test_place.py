"""Where the key is looked for, and what may stand there."""

from pathlib import Path

import pytest

from cli.errors import CommandError, Exit
from cli.place import api_key, key_path


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TRAINYARD_HOME", "TRAINYARD_CONFIG", "TRAINYARD_API_KEY", "TRAINYARD_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_home_has_its_key_in_the_configuration_folder(tmp_path: Path) -> None:
    assert key_path() == tmp_path / ".config/trainyard/credentials"


def test_two_homes_have_two_key_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    default = key_path()
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "other"))
    assert key_path() == tmp_path / "other/credentials" != default


def test_the_path_that_is_given_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("TRAINYARD_CONFIG", str(tmp_path / "key"))
    assert key_path() == tmp_path / "key"


@pytest.mark.parametrize("key", ["ty-\u00e9", "ty-a b", "ty-\n"])
def test_a_key_that_no_header_takes_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TRAINYARD_API_KEY", key)
    with pytest.raises(CommandError) as caught:
        api_key()
    assert caught.value.code is Exit.AUTH


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"ty-\xc3\xa9"])
def test_a_key_file_of_other_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    monkeypatch.setenv("TRAINYARD_CONFIG", str(tmp_path / "key"))
    with pytest.raises(CommandError) as caught:
        api_key()
    assert caught.value.code is Exit.AUTH
    assert str(tmp_path / "key") in caught.value.message
