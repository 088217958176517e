"""The checks of every screen on rare ones, in both themes and at both widths: signed out, not found, empty, dialogs."""

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.dashboard import past as pasts
from tests.e2e.dashboard.conftest import Open, sign_in, tabs
from tests.e2e.dashboard.past import Past
from tests.e2e.service import ROOT, environment_of

THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
EMPTY = {
    "/jobs": "No jobs yet",
    "/datasets": "No datasets yet",
    "/evals": "No evaluations yet",
    "/models": "No models yet",
    "/playground": "No models yet",
    "/workers": "Queue",
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """An unused service."""
    with pasts.serve(tmp_path_factory.mktemp("empty") / "home") as serving:
        yield serving


@pytest.fixture
def empty_screen(browser: Browser, empty: Past) -> Iterator[Open]:
    with tabs(browser, empty.url, sign_in(browser, empty.url, empty.key)) as open_screen:
        yield open_screen


@THEMES
def test_the_sign_in_page_passes_the_checks_also_after_a_wrong_key(browser: Browser, past: Past, theme: str) -> None:
    with tabs(browser, past.url, None) as open_screen:
        opened = open_screen("/", theme, allow="status of 401")
        opened.page.get_by_label("API key").fill("ty-" + "x" * 43)
        opened.check_both_widths()
        opened.page.get_by_role("button", name="Sign in").click()
        expect(opened.page.get_by_role("alert")).to_contain_text("wrong or has been revoked")
        opened.check_both_widths()


@THEMES
def test_pages_of_missing_things_pass_the_checks(past_screen: Open, theme: str) -> None:
    opened = past_screen("/no/such/page", theme, allow="status of 404")
    expect(opened.page.get_by_text("Page not found")).to_be_visible()
    opened.check_both_widths()
    for path in ("/jobs/job-none", "/datasets/file-none", "/evals/job-none", "/models/model/model-none"):
        opened.open(path)
        expect(opened.page.get_by_role("alert")).to_be_visible()
        opened.check_both_widths()


@THEMES
def test_the_cancel_dialog_passes_the_checks(past: Past, past_screen: Open, theme: str) -> None:
    opened = past_screen(f"/jobs/{past.runs['running']}", theme)
    opened.page.get_by_role("button", name="Cancel", exact=True).click()
    expect(opened.page.get_by_role("dialog").get_by_role("button", name="Cancel the job")).to_be_visible()
    opened.check_both_widths()


@THEMES
def test_the_checksums_dialog_passes_the_checks(past: Past, past_screen: Open, theme: str) -> None:
    opened = past_screen(f"/jobs/{past.made['tuned job']}/artifacts", theme)
    opened.page.get_by_role("button", name="checksums of tuned/1").click()
    expect(opened.page.get_by_role("dialog").locator("pre")).to_contain_text("model.safetensors")
    opened.check_both_widths()


@THEMES
def test_every_empty_screen_passes_the_checks(empty_screen: Open, theme: str) -> None:
    opened = empty_screen("/jobs", theme)
    for path, sign in EMPTY.items():
        opened.open(path)
        expect(opened.page.get_by_role("main").get_by_text(sign).first).to_be_visible()
        opened.check_both_widths()


def test_a_read_only_key_sees_why_an_empty_list_has_no_guide(browser: Browser, empty: Past) -> None:
    with empty.http() as http:
        token = http.post("/v1/keys", json={"name": "reader", "scope": "read"}).json()["token"]
    with tabs(browser, empty.url, sign_in(browser, empty.url, token)) as open_screen:
        page = open_screen("/jobs").page
        expect(page.get_by_text("No jobs yet. Creating one requires a key with the scope write.")).to_be_visible()
        expect(page.get_by_role("region", name="Getting started")).to_have_count(0)


def test_the_empty_list_shows_a_command_that_makes_a_row_appear(empty: Past, empty_screen: Open) -> None:
    """This test comes last: afterwards the service is no longer empty."""
    page = empty_screen("/jobs").page
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    program, *arguments = shlex.split(page.locator("main code").inner_text())
    environment = environment_of(empty.home) | {"TRAINYARD_URL": empty.url}
    subprocess.run([ROOT / program, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)
    expect(page.get_by_role("row", name=re.compile("shakespeare"))).to_be_visible(timeout=5000)
