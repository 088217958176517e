"""Where the data lies when the environment says nothing, or nothing much."""

from pathlib import Path

import pytest

from db.settings import StorageSettings


def test_an_empty_variable_is_as_none_and_not_the_working_directory(monkeypatch: pytest.MonkeyPatch):
    for name in ("TRAINYARD_HOME", "TRAINYARD_DATABASE_URL"):
        monkeypatch.setenv(name, "")
    settings = StorageSettings()
    assert (settings.home.is_absolute(), settings.home == Path.cwd()) == (True, False)
    assert settings.database_url == f"sqlite:///{settings.home}/trainyard.db"
