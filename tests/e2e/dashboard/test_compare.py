"""Comparing runs, and the dry run of a job."""

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, text_file, wait_ended
from tests.e2e.service import Service


@pytest.fixture(scope="module")
def runs(service: Service) -> list[dict]:
    return [
        wait_ended(service, make_job(service, name, steps=20, seed=seed)) for seed, name in enumerate(("one", "two"))
    ]


def address(runs: list[dict]) -> str:
    return f"/compare?runs={quote(json.dumps([run['id'] for run in runs]))}"


def test_only_differences_are_listed_and_every_series_is_named(screen: Open, runs: list[dict]) -> None:
    page = screen(address(runs)).page
    differences = page.get_by_role("region", name="Differences")
    expect(differences.get_by_role("row")).to_have_count(4)  # the header, suffix, seed, and each run's own file
    expect(differences.get_by_role("row", name=re.compile("seed"))).to_contain_text("1")
    expect(page.get_by_role("img", name="loss of one, two")).to_be_visible()


def test_hiding_a_run_changes_no_other_number_and_survives_a_reload(screen: Open, runs: list[dict]) -> None:
    page = screen(address(runs)).page
    row = page.get_by_role("region", name="Outcome").get_by_role("row", name=re.compile("^two"))
    expect(row).to_be_visible()
    before = row.inner_text()
    page.get_by_role("checkbox", name="one", exact=True).uncheck()
    expect(page.get_by_role("img", name="loss of two")).to_be_visible()
    page.reload()
    expect(page.get_by_role("img", name="loss of two")).to_be_visible()
    assert row.inner_text() == before


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_dry_run_shows_a_plan_and_creates_no_job(service: Service, screen: Open, theme: str) -> None:
    spec = {
        "kind": "pretrain",
        "training_file": text_file(service),
        "hyperparameters": {"max_steps": 7},
        "suffix": "dry",
    }
    opened = screen(f"/jobs/new?spec={quote(json.dumps(spec))}", theme)
    page = opened.page
    page.get_by_role("button", name="Dry run").click()
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_be_visible(timeout=60_000)
    for fact in ("Steps7", "Tokens", "Time", "Memory"):
        expect(plan).to_contain_text(fact)
    opened.check_both_widths()
    with service.http() as http:
        assert "dry" not in {job["spec"]["suffix"] for job in http.get("/v1/jobs").json()["data"]}
