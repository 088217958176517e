"""The list of thousands of jobs."""

import re
from collections.abc import Iterator
from statistics import median

import pytest
from playwright.sync_api import Browser, expect

from benchmarks.harness.seeded import seed
from tests.e2e.dashboard import past as pasts
from tests.e2e.dashboard.conftest import Open, Screen, sign_in, tabs
from tests.e2e.dashboard.past import Past

JOBS = 5000


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    with pasts.serve(tmp_path_factory.mktemp("crowd") / "home") as serving:
        seed(f"sqlite:///{serving.home}/trainyard.db", serving.project_id, JOBS, 10)
        yield serving


@pytest.fixture
def crowd_screen(browser: Browser, crowd: Past) -> Iterator[Open]:
    with tabs(browser, crowd.url, sign_in(browser, crowd.url, crowd.key)) as open_screen:
        yield open_screen


def test_the_first_rows_of_five_thousand_jobs_appear_within_a_second_and_few_are_requested(
    crowd_screen: Open, past_screen: Open
) -> None:
    """Within a second or, on a slower machine, about as soon as those of a tenth of the jobs."""
    many, fewer = crowd_screen("/workers"), past_screen("/workers")
    took: dict[Screen, list[float]] = {many: [], fewer: []}
    for _ in range(3):
        for opened, times in took.items():
            opened.page.goto("about:blank")  # whatever page is open may list jobs by itself meanwhile
            with opened.page.expect_response(re.compile(r"/v1/jobs\?")) as response:
                opened.open("/jobs")
            opened.page.locator("tbody tr").first.wait_for()
            times.append(opened.page.evaluate("performance.now()"))
            listed = response.value.json()
            assert 0 < len(listed["data"]) <= 50
            assert listed["has_more"]
            expect(opened.page.locator("tbody tr")).to_have_count(len(listed["data"]))
    assert median(took[many]) <= max(1000, 1.3 * median(took[fewer])), took
