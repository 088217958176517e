"""Where the data lies when the environment says nothing, or nothing much."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from db import traces
from db.settings import StorageSettings, WebhookSettings
from db.traces import TraceSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
_FRAGMENT = re.compile(r"(Of|By|The same|As|What it)\b")
"""How a description begins that leaves its subject to the reader."""
READ = {
    "api.settings": [StorageSettings, WebhookSettings, TraceSettings, ApiSettings],
    "workers.settings": [WorkerSettings, WebhookSettings, TraceSettings],
}
"""By the command that tells of them, what the API reads, and what workers, reaper and desk do."""


@pytest.mark.parametrize("settings", [StorageSettings, WebhookSettings, TraceSettings, ApiSettings, WorkerSettings])
def test_the_description_of_a_setting_is_a_phrase_with_a_subject(settings: type[BaseSettings]):
    descriptions = {name: field.description or "" for name, field in settings.model_fields.items()}
    assert {name: told for name, told in descriptions.items() if _FRAGMENT.match(told) or len(told.split()) < 4} == {}


def test_an_empty_variable_is_as_none_and_not_the_working_directory(monkeypatch: pytest.MonkeyPatch):
    for name in ("TRAINYARD_HOME", "TRAINYARD_DATABASE_URL"):
        monkeypatch.setenv(name, "")
    settings = StorageSettings()
    assert (settings.home.is_absolute(), settings.home == Path.cwd()) == (True, False)
    assert settings.database_url == f"sqlite:///{settings.home}/trainyard.db"


def test_an_empty_address_of_a_collector_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINYARD_OTLP_ENDPOINT", "")
    assert TraceSettings().otlp_endpoint is None
    traces.begin("api")
    assert traces._provider is None


@pytest.mark.parametrize("module", list(READ))
def test_every_setting_is_told_with_its_meaning_and_the_value_that_it_has_by_default(
    module: str, monkeypatch: pytest.MonkeyPatch
):
    read = READ[module]
    before = [settings().model_dump() for settings in read]
    command = [sys.executable, "-m", module]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    told = {line: meaning for meaning, line in pairwise(lines) if line.startswith("#TRAINYARD_")}
    assert all(len(meaning) > len("# ") for meaning in told.values())
    values = dict(line.removeprefix("#").split("=", 1) for line in told)
    assert set(values) == {f"TRAINYARD_{name.upper()}" for settings in read for name in settings.model_fields}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert [settings().model_dump() for settings in read] == before
