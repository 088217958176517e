"""The list of benchmarks, the jobs and verdict of the preference benchmark, and the search for a peer's best settings."""

import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.jobs import JOB_SPEC
from tests import scripts

ROOT = scripts.BENCHMARKS.parent
SCRIPTS = sorted((*scripts.BENCHMARKS.glob("*.py"), *(scripts.BENCHMARKS / "gpu").glob("*.py")))


@pytest.fixture
def preference() -> ModuleType:
    from benchmarks import preference as module

    return module


@pytest.fixture
def race() -> ModuleType:
    from benchmarks.harness import race as module

    return module


def make_bench(name: str) -> subprocess.CompletedProcess[str]:
    """Dry-run `make bench`: nothing is installed or measured."""
    return subprocess.run(
        ["make", "-n", "bench", f"NAME={name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(scripts.BENCHMARKS)))
def test_every_script_in_the_folder_is_a_benchmark(script: Path) -> None:
    assert '__name__ == "__main__"' in script.read_text()


@pytest.mark.parametrize("name", ["api", "gpu/attention"])
def test_make_runs_a_benchmark_by_name(name: str) -> None:
    done = make_bench(name)
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{name}.py" in done.stdout


@pytest.mark.parametrize("name", ["report", "harness/report", "children/ingest", "gpu/gpu_size", ""])
def test_make_refuses_what_is_no_benchmark(name: str) -> None:
    done = make_bench(name)
    assert done.returncode == 2
    assert "NAME is one of: " in done.stderr


def contest(race: ModuleType, *stages: dict[str, dict[str, Any]]) -> Any:
    """Return a contest whose peer is known with batches of eight; nothing of it is run."""
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
