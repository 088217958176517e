"""The demo's folder: made anew each time, and never somebody else's."""

import os
from pathlib import Path

import pytest

from cli.demo import _empty, _forget_settings
from cli.errors import CommandError
from cli.home import locked
from cli.main import main


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    _empty(home)
    (home / "trainyard.db").touch()
    _empty(home)
    assert not (home / "trainyard.db").exists()


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(CommandError, match="was not made by the demo"):
        _empty(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_whose_service_still_runs_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    _empty(home)
    with locked(home), pytest.raises(CommandError, match="still runs"):
        _empty(home)


def test_without_examples_it_says_where_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--examples", str(tmp_path)]) == 1
    assert "Run the demo from a clone" in capsys.readouterr().err


def test_no_setting_of_another_service_reaches_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "CONFIG", "BLOBS", "S3_ENDPOINT", "BLOBS_DIR", "DESK_SOCKET", "HOST", "URL", "STOP_GRACE_S"):
        monkeypatch.setenv(f"TRAINYARD_{name}", "another's")
    _forget_settings(tmp_path)
    left = {name: value for name, value in os.environ.items() if name.startswith("TRAINYARD_")}
    assert left == {"TRAINYARD_HOME": str(tmp_path), "TRAINYARD_CONFIG": str(tmp_path / "credentials")}
