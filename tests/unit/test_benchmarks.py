"""What the benchmark of preferences asks for and how it judges; that it runs is seen when it is run."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from engine.jobs import JOB_SPEC


@pytest.fixture
def preference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("preference")


@pytest.mark.parametrize("name", ["BASE", "DPO"])
def test_its_jobs_are_valid(preference: ModuleType, name: str) -> None:
    JOB_SPEC.validate_python(getattr(preference, name))


@pytest.mark.parametrize(("accuracy", "holds"), [(0.56, False), (0.60, False), (0.63, True)])
def test_well_above_the_baseline_is_more_than_chance_allows(
    preference: ModuleType, accuracy: float, holds: bool
) -> None:
    assert preference.result(accuracy, 0.569, 500)["holds"] is holds
