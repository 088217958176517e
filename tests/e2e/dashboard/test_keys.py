"""API keys: scopes, showing a key once, revocation, and the pages for a read-only key."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.dashboard.conftest import Open, Screen, held, sign_in, tabs
from tests.e2e.dashboard.jobs import make_job
from tests.e2e.dashboard.past import Past
from tests.e2e.service import Service


def make_key(page: Page, name: str, scope: str) -> str:
    """Create a key in the dialog; return the token that it shows."""
    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog", name="New key")
    dialog.get_by_label("Name").fill(name)
    dialog.get_by_role("radio", name=re.compile(f"^{scope} ")).check()
    dialog.get_by_role("button", name="Create key").click()
    expect(dialog).to_contain_text("Copy the key now")
    return dialog.get_by_text(re.compile("^ty-")).inner_text()


def status(service: Service, token: str, method: str, path: str) -> int:
    url = service.state()["url"] + path
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, url, headers=headers, json={}, trust_env=False).status_code


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_keys_are_scoped_shown_once_and_revoked(service: Service, screen: Open, shots: Path, theme: str) -> None:
    opened = screen("/keys", theme)
    page, name = opened.page, f"notebook {theme}"
    with held(page, "**/v1/keys?*"):  # the key is shown without waiting for the new list
        token = make_key(page, name, "read")
    expect(page.get_by_role("button", name="Copy the key")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == token
    page.screenshot(path=shots / f"keys-new-{theme}.png")
    opened.check_both_widths()
    page.mouse.click(2, 2)  # beside the dialog
    page.get_by_role("button", name="Done").click()
    assert token not in page.content()

    assert status(service, token, "GET", "/v1/jobs") == 200
    assert status(service, token, "POST", "/v1/jobs") == 403
    row = page.get_by_role("row", name=re.compile(name))
    expect(row).to_contain_text("read")
    page.reload()
    expect(row).to_contain_text(token[:9])
    assert token not in page.content()
    page.screenshot(path=shots / f"keys-{theme}.png", full_page=True)
    opened.check_both_widths()

    row.get_by_role("button", name="Revoke").click()
    opened.check_both_widths()
    page.get_by_role("dialog", name="Revoke this key?").get_by_role("button", name="Revoke key").click()
    expect(row).to_contain_text("revoked")
    expect(row.get_by_role("button")).to_have_count(0)
    page.wait_for_timeout(1000)
    assert status(service, token, "GET", "/v1/jobs") == 401


def test_the_key_in_use_cannot_be_revoked(screen: Open) -> None:
    row = screen("/keys").page.get_by_role("row", name=re.compile("in use here"))
    expect(row).to_contain_text("operator")
    expect(row.get_by_role("button")).to_have_count(0)


@pytest.fixture
def reading(past: Past, browser: Browser) -> Iterator[Screen]:
    """A tab that is signed in with a read-only key."""
    with past.http() as http:
        token = http.post("/v1/keys", json={"name": "reader", "scope": "read"}).json()["token"]
    with tabs(browser, past.url, sign_in(browser, past.url, token)) as open_screen:
        yield open_screen("/jobs")


def test_a_read_only_key_is_offered_no_changes(past: Past, reading: Screen) -> None:
    job_id, page = make_job(past, "watched"), reading.page
    expect(page.get_by_text("read-only key")).to_be_visible()
    expect(page.get_by_role("link", name="New job")).to_have_count(0)
    reading.open(f"/jobs/{job_id}/metrics")
    expect(page.get_by_role("heading", name="watched")).to_be_visible()
    for name in ("Pause", "Cancel"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    reading.open("/datasets")
    expect(page.get_by_role("row", name=re.compile("text.txt")).first).to_be_visible()
    expect(page.get_by_role("button", name="Choose a file")).to_have_count(0)
    reading.open("/jobs/new")
    expect(page.get_by_text("Creating a job requires a key with the scope write")).to_be_visible()
    expect(page.get_by_role("button", name="Create job")).to_be_disabled()
    reading.open("/keys")
    expect(page.get_by_text("Managing API keys requires a key with the scope admin")).to_be_visible()
    reading.check()
