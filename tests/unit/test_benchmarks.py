"""What the benchmark of preferences asks for and how it judges, and how a race searches its peer's settings."""

import importlib
from types import ModuleType
from typing import Any

import pytest

from engine.jobs import JOB_SPEC
from tests import scripts


@pytest.fixture
def preference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(scripts.BENCHMARKS)
    return importlib.import_module("preference")


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(scripts.BENCHMARKS)
    return importlib.import_module("race")


def contest(race: ModuleType, *stages: dict[str, dict[str, Any]]) -> Any:
    """One whose peer is known with batches of eight; nothing of it is run."""
    known = {"defaults": {"rows": 8}}
    return race.Contest("x", {}, "", lambda *_: [], {}, known, {"best": 2.0}, list(stages))


@pytest.mark.parametrize("name", ["BASE", "DPO"])
def test_its_jobs_are_valid(preference: ModuleType, name: str) -> None:
    JOB_SPEC.validate_python(getattr(preference, name))


@pytest.mark.parametrize(("accuracy", "holds"), [(0.56, False), (0.60, False), (0.63, True)])
def test_well_above_the_baseline_is_more_than_chance_allows(
    preference: ModuleType, accuracy: float, holds: bool
) -> None:
    assert preference.result(accuracy, 0.569, 500)["holds"] is holds


def test_a_search_puts_the_best_of_each_stage_over_the_one_before(race: ModuleType) -> None:
    rates = {(8, False): 1.0, (4, False): 2.0, (4, True): 3.0}
    asked = contest(race, {"eight": {"rows": 8}, "four": {"rows": 4}}, {"compiled": {"compiled": True}})
    found = race.search(
        asked, lambda runs: {name: rates[how["rows"], how.get("compiled", False)] for name, how in runs.items()}
    )
    assert found == ("four + compiled", {"rows": 4, "compiled": True})


def test_a_stage_of_which_nothing_fits_in_memory_is_passed_over(race: ModuleType) -> None:
    asked = contest(race, {"huge": {"rows": 64}}, {"four": {"rows": 4}})
    found = race.search(asked, lambda runs: {name: 1.0 for name, how in runs.items() if how["rows"] < 64})
    assert found == ("four", {"rows": 4})


def test_when_nothing_fits_the_known_setting_is_the_best(race: ModuleType) -> None:
    assert race.search(contest(race, {"huge": {"rows": 64}}), lambda _: {}) == ("defaults", {"rows": 8})
