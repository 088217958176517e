"""Several tabs of one browser: they share six connections to the service, and one session."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.past import STEPS, Past, bring_to, point

_SHOW = """state => {
  for (const [name, value] of [["visibilityState", state], ["hidden", state === "hidden"]])
    Object.defineProperty(document, name, { configurable: true, get: () => value });
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""


def hide(page: Page) -> None:
    page.evaluate(_SHOW, "hidden")


def show(page: Page) -> None:
    page.evaluate(_SHOW, "visible")


def test_hidden_job_tabs_leave_connections_to_others_and_catch_up_when_shown(past: Past, past_screen: Open) -> None:
    with past.database.write() as s:
        past.runs["in-tabs"] = bring_to(s, past.project_id, "running")
    address = f"{past.url}/jobs/{past.runs['in-tabs']}/metrics"
    first = past_screen(f"/jobs/{past.runs['in-tabs']}/metrics").page
    pages = [first] + [first.context.new_page() for _ in range(6)]
    for page in pages[1:]:
        hide(pages[pages.index(page) - 1])
        page.goto(address)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    past.record("in-tabs", point(STEPS + 1, 2.5))
    show(first)
    expect(first.get_by_role("img", name=re.compile(f"^Loss over {STEPS + 1} points"))).to_be_visible()


def sign_in_elsewhere(page: Page, past: Past, key: str) -> None:
    """Replace the session's cookie, as a sign-in in another tab does."""
    answer = page.context.request.post(f"{past.url}/v1/session", data={"key": key})
    assert answer.status == 201


def test_a_tab_goes_on_after_another_has_signed_in_again(past: Past, past_screen: Open) -> None:
    with past.database.write() as s:
        job_id = bring_to(s, past.project_id, "running")
    page = past_screen(f"/jobs/{job_id}", allow="status of 403").page
    pause = page.get_by_role("button", name="Pause")
    expect(pause).to_be_visible()
    sign_in_elsewhere(page, past, past.key)
    with page.expect_response("**/v1/session"):  # the tab reads its new token
        pause.click()
    expect(page.get_by_role("alert")).to_contain_text("signed in again in another tab")
    pause.click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_a_tab_reloads_when_another_has_signed_in_with_another_key(past: Past, past_screen: Open) -> None:
    with past.http() as http:
        other = http.post("/v1/keys", json={"name": "another-key", "scope": "write"}).json()["token"]
    page = past_screen("/jobs").page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.evaluate("window.isOld = true")
    sign_in_elsewhere(page, past, other)
    hide(page)
    show(page)
    expect(page.get_by_text("another-key")).to_be_visible()
    assert page.evaluate("window.isOld") is None
