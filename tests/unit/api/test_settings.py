"""The secret under which keys are stored: whole, private, and never empty."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from api.private import write_private
from api.settings import ApiSettings, key_secret, make_secret


def settings(secret: str | None = None) -> ApiSettings:
    return ApiSettings(secret=None if secret is None else SecretStr(secret))


def test_the_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    made = make_secret(settings(), tmp_path)
    assert len(made) == 64
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert make_secret(settings(), tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with pytest.raises(ValueError, match="is empty"):
        make_secret(settings(), tmp_path)


def test_an_empty_secret_in_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TRAINYARD_SECRET is empty"):
        key_secret(settings(""), tmp_path)


def test_a_file_that_is_to_be_kept_is_not_written_over(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "first")
    write_private(tmp_path / "secret", "second", keep=True)
    assert (tmp_path / "secret").read_text() == "first"
