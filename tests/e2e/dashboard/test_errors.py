"""Failures of the service, of the network and of jobs, and what the pages say about them."""

import json
import re
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.past import Past, bring_to


def comparing(runs: list[str]) -> str:
    return f"/compare?runs={quote(json.dumps(runs))}"


def test_pages_that_do_not_poll_notice_that_the_service_is_unreachable(past_screen: Open) -> None:
    pages = [past_screen(path, allow="net::ERR_FAILED").page for path in ("/models", "/keys", "/jobs/new")]
    for page in pages:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        page.route("**/*", lambda route: route.abort())
    for page in pages:
        expect(page.get_by_text("The service does not respond")).to_be_visible()
        page.unroute_all()
    for page in pages:
        expect(page.get_by_text("The service does not respond")).to_be_hidden()


AWAY = "the database cannot answer now; try again"


def refuse(page: Page, address: str | re.Pattern[str], status: int, body: str) -> None:
    """Answer every request to the address like this."""
    page.unroute_all()
    page.route(address, lambda route: route.fulfill(status=status, body=body))


def envelope(message: str) -> str:
    return json.dumps({"error": {"code": "on_purpose", "message": message, "type": "server_error"}})


def test_a_temporary_failure_is_shown_in_the_services_words_and_retried(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="status of 503").page
    row = page.locator("tbody tr").first
    expect(row).to_be_visible()
    banner = page.get_by_role("status")
    for shown in (True, False):  # over rows that were loaded before, and on a page without any
        refuse(page, re.compile(r"/v1/jobs\?"), 503, envelope(AWAY))
        if not shown:
            page.reload()
        expect(banner).to_contain_text(f"The service reports: {AWAY}.")
        expect(row).to_be_visible(visible=shown)
        page.unroute_all()
        expect(banner).to_have_count(0)
        expect(row).to_be_visible()


def test_data_that_cannot_be_refreshed_is_marked_as_out_of_date(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="status of 500").page
    row = page.locator("tbody tr").first
    expect(row).to_be_visible()
    refuse(page, re.compile(r"/v1/jobs\?"), 500, envelope("something went wrong"))
    banner = page.get_by_role("status")
    expect(banner).to_contain_text("The service reports: something went wrong. This page may be out of date")
    expect(row).to_be_visible()
    page.unroute_all()
    expect(banner).to_have_count(0)


def test_a_page_that_is_opened_while_the_service_fails_says_so_and_recovers(past_screen: Open) -> None:
    opened = past_screen("/jobs", allow="status of 50[03]|net::ERR_FAILED")
    page = opened.page
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.route("**/v1/session", lambda route: route.abort())
    page.reload()
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_have_text("The service does not respond. Retrying …")
    opened.check()
    for status, body, message in (
        (503, "<html>Service Unavailable</html>", "The service does not respond"),
        (503, envelope(AWAY), AWAY),
        (500, envelope("see its log"), "see its log"),
    ):
        refuse(page, "**/v1/session", status, body)
        page.reload()
        expect(alert).to_contain_text(message)
    page.unroute_all()
    expect(page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()


def test_a_page_whose_code_could_not_be_loaded_recovers_by_itself(past_screen: Open) -> None:
    away = "net::ERR_FAILED|Unable to preload CSS|could not be loaded"
    page = past_screen("/jobs", allow=away).page
    expect(page.locator("tbody tr").first).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="API keys").click()
    expect(page.get_by_role("main")).to_contain_text("This page's code could not be loaded")
    page.unroute_all()
    expect(page.get_by_role("heading", level=1, name="API keys")).to_be_visible()


def test_a_page_whose_code_is_missing_says_so_and_does_not_reload_for_ever(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="net::ERR_FAILED|Unable to preload CSS|could not be loaded").page
    loaded: list[str] = []
    page.on("load", lambda which: loaded.append(which.url))
    page.route("**/assets/KeysPage*", lambda route: route.abort())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="API keys").click()
    again = page.get_by_role("button", name="Reload")
    expect(again).to_be_visible()
    assert len(loaded) == 1, "it was reloaded once, without success"
    page.unroute_all()
    again.click()
    expect(page.get_by_role("heading", level=1, name="API keys")).to_be_visible()


_BROKEN = re.compile("500 on purpose")


def test_a_failed_request_is_shown_as_an_error_and_not_as_missing_data(past_screen: Open, past: Past) -> None:
    plain = past.runs["plain"]
    page = past_screen("/jobs", allow="status of 500").page
    expect(page.locator("tbody tr").first).to_be_visible()
    for path, broken, false in (
        (f"/jobs/{plain}/metrics", r"/metrics/loss", "Loading …"),
        (comparing([plain]), r"/v1/jobs\?id=", None),
        (comparing([plain]), r"/metrics/loss", "None of the visible runs"),
        (f"/datasets/{past.made['rows.jsonl']}", r"/v1/models\?", "there is no model yet"),
        ("/jobs/new", r"/v1/files\?", None),
        ("/workers", r"/v1/queue", None),
        (f"/jobs/{past.made['tuned job']}/artifacts", r"/v1/adapters\?", "Nothing saved yet"),
    ):
        refuse(page, re.compile(broken), 500, envelope("500 on purpose"))
        page.goto(past.url + path)
        expect(page.get_by_role("main").get_by_role("alert").filter(has_text=_BROKEN).first).to_be_visible()
        if false:
            expect(page.get_by_role("main").get_by_text(false)).to_have_count(0)


def test_a_request_over_the_limit_is_repeated(past_screen: Open) -> None:
    page = past_screen("/models", allow="status of 429").page
    expect(page.get_by_role("link", name="tuned/1", exact=True)).to_be_visible()
    refuse(page, re.compile(r"/v1/models\?"), 429, envelope("too many requests"))
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("too many requests")
    page.unroute_all()
    expect(page.get_by_role("link", name="tuned/1", exact=True)).to_be_visible()


def test_a_failed_job_is_tried_again_from_its_page(past_screen: Open, past: Past) -> None:
    with past.database.write() as s:
        failed = bring_to(s, past.project_id, "failed")
    page = past_screen(f"/jobs/{failed}").page
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("heading", level=1).locator("..")).to_contain_text("queued")
    with past.http() as http:
        assert http.get(f"/v1/jobs/{failed}").json()["status"] == "queued"


def test_a_failed_job_shows_its_code_and_where_it_began(past_screen: Open, past: Past) -> None:
    with past.http() as http:
        error = http.get(f"/v1/jobs/{past.runs['failed']}").json()["error"]
        first = http.get(f"/v1/jobs/{past.runs['failed']}/events?level=error&order=asc&limit=1").json()["data"][0]
    page = past_screen(f"/jobs/{past.runs['failed']}").page
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(error["code"])
    alert.get_by_role("link", name="Show in events").click()
    expect(page).to_have_url(re.compile(rf"/events\?line={first['seq']}$"))
    expect(page.locator("[data-chosen=true]")).to_contain_text(str(first["seq"]))


def test_missing_runs_are_named_and_at_most_twenty_are_compared(past_screen: Open, past: Past) -> None:
    page = past_screen(comparing(["job-of-nobody", past.runs["plain"]]), allow="status of 404").page
    expect(page.get_by_text("job-of-nobody")).to_be_visible()
    expect(page.get_by_text("The baseline was among them")).to_be_visible()
    page = past_screen(comparing([past.runs["plain"]] * 21)).page
    expect(page.get_by_text("the first 20 of 21 runs")).to_be_visible()
