"""What a page leaves out, or cannot know, it says."""

import json
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from benchmarks import history
from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.past import Past, bring_to, curve

_LINE_IS_DRAWN = """() => {
  const canvas = document.querySelector(".u-wrap canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((_, at) => at % 4 === 0 && data[at + 3] > 99 && data[at + 2] > data[at] + 60);
}"""


def comparing(runs: list[str]) -> str:
    return f"/compare?runs={quote(json.dumps(runs))}"


def test_pages_that_ask_nothing_by_themselves_say_that_the_service_is_away(past_screen: Open) -> None:
    pages = [past_screen(path, allow="net::ERR_FAILED").page for path in ("/models", "/keys", "/jobs/new")]
    for page in pages:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        page.route("**/*", lambda route: route.abort())
    for page in pages:
        expect(page.get_by_text("The service does not answer")).to_be_visible()
        page.unroute_all()
    for page in pages:
        expect(page.get_by_text("The service does not answer")).to_be_hidden()


AWAY = "the database cannot answer now; try again"


def refuse(page: Page, address: str | re.Pattern[str], status: int, body: str) -> None:
    """What lies at the address is answered like this and no other way."""
    page.unroute_all()
    page.route(address, lambda route: route.fulfill(status=status, body=body))


def envelope(message: str) -> str:
    return json.dumps({"error": {"code": "told", "message": message, "type": "server_error"}})


def test_what_the_service_cannot_tell_now_it_says_in_its_own_words_and_the_page_goes_on(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="status of 503").page
    row = page.locator("tbody tr").first
    expect(row).to_be_visible()
    banner = page.get_by_role("status")
    for shown in (True, False):  # over rows that it had told before, and where it has told none
        refuse(page, re.compile(r"/v1/jobs\?"), 503, envelope(AWAY))
        if not shown:
            page.reload()
        expect(banner).to_contain_text(f"The service says: {AWAY}.")
        expect(row).to_be_visible(visible=shown)
        page.unroute_all()
        expect(banner).to_have_count(0)
        expect(row).to_be_visible()


def test_what_stands_is_said_to_be_old_where_the_service_no_longer_tells_it(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="status of 500").page
    row = page.locator("tbody tr").first
    expect(row).to_be_visible()
    refuse(page, re.compile(r"/v1/jobs\?"), 500, envelope("something went wrong"))
    banner = page.get_by_role("status")
    expect(banner).to_contain_text("The service says: something went wrong. What you see may be old")
    expect(row).to_be_visible()
    page.unroute_all()
    expect(banner).to_have_count(0)


def test_a_page_that_is_loaded_while_the_service_fails_says_so_and_opens_by_itself(past_screen: Open) -> None:
    opened = past_screen("/jobs", allow="status of 50[03]|net::ERR_FAILED")
    page = opened.page
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.route("**/v1/session", lambda route: route.abort())
    page.reload()
    alert = page.get_by_role("main").get_by_role("alert")
    expect(alert).to_have_text("The service does not answer. This page tries again by itself.")
    opened.check()
    for status, body, told in (
        (503, "<html>Service Unavailable</html>", "The service does not answer"),
        (503, envelope(AWAY), AWAY),
        (500, envelope("its log tells more"), "its log tells more"),
    ):
        refuse(page, "**/v1/session", status, body)
        page.reload()
        expect(alert).to_contain_text(told)
    page.unroute_all()
    expect(page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()


def test_a_page_whose_code_did_not_come_loads_by_itself_when_the_service_is_back(past_screen: Open) -> None:
    away = "net::ERR_FAILED|Unable to preload CSS|did not come"
    page = past_screen("/jobs", allow=away).page
    expect(page.locator("tbody tr").first).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="API keys").click()
    expect(page.get_by_role("main")).to_contain_text("The code of this page did not come")
    page.unroute_all()
    expect(page.get_by_role("heading", level=1, name="API keys")).to_be_visible()


def test_a_page_whose_code_is_not_there_says_so_and_does_not_load_for_ever(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="net::ERR_FAILED|Unable to preload CSS|did not come").page
    loaded: list[str] = []
    page.on("load", lambda which: loaded.append(which.url))
    page.route("**/assets/KeysPage*", lambda route: route.abort())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="API keys").click()
    again = page.get_by_role("button", name="Load it again")
    expect(again).to_be_visible()
    assert len(loaded) == 1, "it was loaded anew once, in vain"
    page.unroute_all()
    again.click()
    expect(page.get_by_role("heading", level=1, name="API keys")).to_be_visible()


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
    alert.get_by_role("link", name="Where it began").click()
    expect(page).to_have_url(re.compile(rf"/events\?line={first['seq']}$"))
    expect(page.locator("[data-chosen=true]")).to_contain_text(str(first["seq"]))


def test_runs_that_cannot_be_read_are_named_and_twenty_are_the_most(past_screen: Open, past: Past) -> None:
    page = past_screen(comparing(["job-of-nobody", past.runs["plain"]]), allow="status of 404").page
    expect(page.get_by_text("job-of-nobody")).to_be_visible()
    expect(page.get_by_text("The baseline was among them")).to_be_visible()
    page = past_screen(comparing([past.runs["plain"]] * 21)).page
    expect(page.get_by_text("the first 20 of 21 runs")).to_be_visible()


def test_two_runs_of_one_name_are_told_apart(past_screen: Open, past: Past) -> None:
    twins = [history.add_run(past.database, past.project_id, "twin", curve(40)) for _ in range(2)]
    page = past_screen(comparing(twins)).page
    for twin in twins:
        expect(page.get_by_role("checkbox", name=f"twin …{twin[-6:]}")).to_be_visible()


@pytest.mark.parametrize("axis", ["time", "tokens"])
def test_a_curve_over_a_logarithm_is_drawn_although_it_begins_at_nothing(
    past_screen: Open, past: Past, axis: str
) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics?x={axis}&logx=true").page
    page.locator(".u-wrap canvas").first.wait_for()
    expect_true(page, _LINE_IS_DRAWN)


def expect_true(page: Page, truth: str) -> None:
    for _ in range(50):
        if page.evaluate(truth):
            return
        page.wait_for_timeout(100)
    raise AssertionError(truth)


def test_a_job_written_as_yaml_has_one_kind_and_broken_yaml_is_mended_first(past_screen: Open) -> None:
    page = past_screen("/jobs/new?mode=yaml").page
    expect(page.get_by_label("The job as YAML")).to_be_visible()
    expect(page.get_by_role("combobox", name="Kind")).to_have_count(0)
    page.get_by_label("The job as YAML").fill("kind: [sft")
    expect(page.get_by_role("button", name="Form")).to_be_disabled()
    page.get_by_label("The job as YAML").fill("kind: dpo\n")
    page.get_by_role("button", name="Form").click()
    expect(page.get_by_role("combobox", name="Kind")).to_have_value("dpo")
    expect(page.get_by_role("button", name="Create the job")).to_be_enabled()
