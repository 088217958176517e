"""Processes that die under an open page: the API, which is restarted, and a worker with its job."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import sign_in, tabs
from tests.e2e.dashboard.jobs import make_job, show_job, wait_ended
from tests.e2e.service import Service, start, wait_until

STEPS = 400
HEARTBEAT_S = 3.0


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose processes these tests kill."""
    running = start(tmp_path_factory.mktemp("mortal") / "home")
    yield running
    running.stop()


@pytest.fixture
def page(browser: Browser, mortal: Service) -> Iterator[Page]:
    """A tab in which only network errors are allowed."""
    url = mortal.state()["url"]
    key = (mortal.home / "credentials").read_text().strip()
    with tabs(browser, url, sign_in(browser, url, key)) as open_screen:
        yield open_screen("/jobs", allow="net::ERR_").page


@contextmanager
def unattended(service: Service) -> Iterator[None]:
    """Suspend the supervisor, so that nothing is restarted before the page has noticed."""
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(service.process.pid, signal.SIGCONT)


def shown_steps(page: Page) -> list[str]:
    loss = page.get_by_role("region", name="Loss", exact=True).get_by_role("region", name="Chart data")
    rows = loss.get_by_role("row").all_inner_texts()
    return [row.split("\t")[0] for row in rows[1:]]


def test_the_api_is_killed_and_comes_back_and_the_curve_has_no_gap_and_no_double(mortal: Service, page: Page) -> None:
    job_id = make_job(mortal, "outlived", steps=STEPS)
    page.goto(f"{mortal.state()['url']}/jobs/{job_id}/metrics?table=true")
    expect(page.get_by_role("img", name=re.compile("^Loss over"))).to_be_visible(timeout=60_000)
    before = len(shown_steps(page))
    with unattended(mortal):
        os.kill(mortal.process_id("api"), signal.SIGKILL)
        banner = page.get_by_role("status").filter(has_text="does not respond")
        expect(banner).to_contain_text(re.compile(r"This page shows data from \d\d:\d\d:\d\d"), timeout=10_000)
        assert len(shown_steps(page)) >= before
    expect(banner).to_have_count(0, timeout=30_000)
    assert wait_ended(mortal, job_id)["status"] == "succeeded"
    expect(page.get_by_role("img", name=re.compile(f"^Loss over {STEPS} points"))).to_be_visible(timeout=15_000)
    assert shown_steps(page) == [str(step) for step in range(1, STEPS + 1)]
    expect(page.get_by_role("main").get_by_text("succeeded", exact=True)).to_be_visible()


def test_a_killed_worker_is_lost_within_two_heartbeats_and_its_job_is_tried_again(mortal: Service, page: Page) -> None:
    job_id = make_job(mortal, "orphaned", steps=100_000)
    wait_until(lambda: (show_job(mortal, job_id)["step"] or 0) > 1, "training", 60)
    page.goto(f"{mortal.state()['url']}/workers")
    row = page.get_by_role("region", name="Workers").get_by_role("row").filter(has_text=job_id)
    expect(row).to_contain_text("busy")
    pid = row.get_by_text(re.compile(r"pid \d+")).inner_text()
    with unattended(mortal):
        os.kill(mortal.process_id("worker"), signal.SIGKILL)
        lost = page.get_by_role("region", name="Workers").get_by_role("row").filter(has_text=pid)
        # Two heartbeats after the last one, and two seconds until the page reads again.
        expect(lost).to_contain_text("lost", timeout=(2 * HEARTBEAT_S + 2) * 1000)
    page.goto(f"{mortal.state()['url']}/jobs/{job_id}/events")
    expect(page.get_by_text(re.compile("tried again from its last checkpoint")).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("attempt 2")).to_be_visible(timeout=60_000)
    with mortal.http() as http:
        http.post(f"/v1/jobs/{job_id}/cancel")
    wait_ended(mortal, job_id)
