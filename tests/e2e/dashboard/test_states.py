"""A job's page in every state, its charts, events and machine; comparing runs; the queue."""

import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from benchmarks.children import history
from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.drawn import READ_BACK
from tests.e2e.dashboard.past import SECRET, STEPS, Past, bring_to, crowding, curve, point

SENTENCES = {
    "queued": "Waiting: .*no worker is alive",
    "preparing": "A worker is preparing the data and the base model",
    "running": "about 1 min left",
    "pausing": "Saving a checkpoint before it releases its worker",
    "paused": "Resume continues from there",
    "failed": f"Failed at step {STEPS}",
    "cancelled": f"Cancelled at step {STEPS}",
    "plain": "Done in",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_each_state_has_a_sentence_and_the_pill_of_the_service(past: Past, past_screen: Open, name: str) -> None:
    page = past_screen(f"/jobs/{past.runs[name]}").page
    expect(page.get_by_role("main").get_by_text(re.compile(SENTENCES[name]))).to_be_visible()
    expect(page.get_by_role("main").get_by_text(past.show(name)["status"], exact=True).first).to_be_visible()


def test_a_row_of_the_list_shows_sparkline_last_loss_and_time_left(past: Past, past_screen: Open) -> None:
    row = past_screen("/jobs?status=running").page.get_by_role("row", name=re.compile("running"))
    expect(row.get_by_text("1 min left")).to_be_visible()
    expect(row.get_by_role("img", name="Loss of running")).to_be_visible()
    loss = past.show("running")["progress"]["loss"]
    expect(row).to_contain_text(f"{loss:.4g}")


def test_a_point_appears_within_two_seconds_of_being_recorded(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['pausing']}/metrics").page
    chart = page.get_by_role("img", name=re.compile("^Loss over 400 points"))
    expect(chart).to_be_visible()
    past.record("pausing", point(STEPS + 1, 2.5))
    expect(page.get_by_role("img", name=re.compile("^Loss over 401 points.* to 2.5,"))).to_be_visible(timeout=2000)


def legend(page: Page, title: str) -> list[str]:
    return page.get_by_role("region", name=title, exact=True).locator(".u-value").all_inner_texts()


def expect_all_lines(page: Page) -> None:
    """Wait for the evaluations, with which the chart of the loss is rebuilt."""
    labels = page.get_by_role("region", name="Loss", exact=True).locator(".u-label")
    expect(labels).to_have_text(["step", "loss", "eval_loss"])


def hover(page: Page, title: str) -> None:
    """Move the cursor to the middle of a chart."""
    page.get_by_role("region", name=title, exact=True).locator(".u-over").hover()


def test_the_full_range_is_shown_over_steps_tokens_and_time(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics?table=true").page
    table = page.get_by_role("region", name="Loss", exact=True).get_by_role("region", name="Chart data")
    expect(table.get_by_role("row")).to_have_count(STEPS + 1)
    expect_all_lines(page)
    for by, middle in (("steps", "200"), ("tokens", "20[0-9]K"), ("time", "1 min")):
        page.get_by_role("combobox").select_option(by)
        hover(page, "Loss")
        expect(page.get_by_role("region", name="Loss", exact=True).locator(".u-value").first).to_have_text(
            re.compile(middle)
        )
    expect(page).to_have_url(re.compile("x=time"))


def test_smoothing_is_off_at_first_and_then_stands_before_the_raw_line(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    labels = page.get_by_role("region", name="Loss", exact=True).locator(".u-label")
    expect(labels).to_have_text(["step", "loss", "eval_loss"])
    page.get_by_label("Smoothing").fill("0.9")
    expect(labels).to_have_text(["step", "loss", "loss, smoothed", "eval_loss"])
    # A constant stays constant: the gradient norm is 1 everywhere, smoothed or not.
    page.get_by_label("Table").check()
    cells = page.get_by_role("region", name="Gradient norm").locator("tbody tr td:nth-child(5)")
    expect(cells).to_have_text(["1"] * STEPS)


def test_both_axes_can_be_logarithmic_and_stay_so_after_a_reload(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    page.get_by_label("Log x").check()
    page.get_by_label("Log y").check()
    expect(page).to_have_url(re.compile("logx=true&logy=true"))  # a moment after the chart is drawn
    page.reload()
    expect(page.get_by_label("Log x")).to_be_checked()
    expect(page.get_by_label("Log y")).to_be_checked()
    expect_all_lines(page)
    hover(page, "Loss")
    # The middle of a logarithmic axis, which ends at 1000, is 32; that of a linear one is 200.
    expect(page.get_by_role("region", name="Loss", exact=True).locator(".u-value").first).to_have_text(
        re.compile("^3[0-4]$")
    )


def test_a_chart_is_read_zoomed_and_stripped_of_a_line_by_keyboard(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    loss = page.get_by_role("region", name="Loss", exact=True)
    step = loss.locator(".u-value").first
    expect(loss.locator(".u-label")).to_have_text(["step", "loss", "eval_loss"])  # the evaluations are drawn too
    loss.get_by_role("img").focus()
    page.keyboard.press("ArrowRight")
    expect(step).to_have_text("1")
    page.keyboard.press("Shift+ArrowRight")
    expect(step).to_have_text(str(1 + STEPS // 10))
    assert legend(page, "Gradient norm")[0] == legend(page, "Loss")[0]
    for key, last in (("+", 1 + STEPS // 10 + STEPS // 4), ("0", STEPS)):
        page.keyboard.press(key)
        for _ in range(10):
            page.keyboard.press("Shift+ArrowRight")
        shown = int(step.inner_text())
        assert abs(shown - last) <= STEPS // 20 if key == "+" else shown == last, (key, shown)
        page.keyboard.press("Shift+ArrowLeft")
    for title in ("Loss", "Gradient norm"):  # a click is not a drag and does not zoom
        page.get_by_role("region", name=title, exact=True).locator(".u-over").click()
    for _ in range(10):
        page.keyboard.press("Shift+ArrowRight")
    assert legend(page, "Gradient norm")[0] == str(STEPS)
    line = loss.get_by_role("button", name="loss", exact=True)
    line.press("Space")
    expect(line).to_have_attribute("aria-pressed", "false")
    expect(loss.locator(".u-series.u-off")).to_have_count(1)
    made = loss.get_by_role("img").element_handle()
    page.emulate_media(color_scheme="dark")  # other colours rebuild the chart
    made.wait_for_element_state("hidden")
    expect(line).to_have_attribute("aria-pressed", "false")
    expect(loss.locator(".u-series.u-off")).to_have_count(1)


def test_a_zoom_outlasts_new_points(past: Past, past_screen: Open) -> None:
    with past.database.write() as s:
        past.runs["zoomed"] = bring_to(s, past.project_id, "running")
    page = past_screen(f"/jobs/{past.runs['zoomed']}/metrics").page
    loss = page.get_by_role("region", name="Loss", exact=True)
    expect(loss.locator(".u-label")).to_have_text(["step", "loss", "eval_loss"])
    loss.get_by_role("img").focus()
    page.keyboard.press("+")  # around the middle: from a quarter to three quarters
    past.record("zoomed", point(STEPS + 1, 2.5))
    expect(loss.get_by_role("img", name=re.compile(f"^Loss over {STEPS + 1} points"))).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    assert abs(int(loss.locator(".u-value").first.inner_text()) - STEPS * 3 / 4) <= STEPS / 20
    page.keyboard.press("0")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    expect(loss.locator(".u-value").first).to_have_text(str(STEPS + 1))


def test_a_chart_that_is_rebuilt_keeps_the_focus(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    loss = page.get_by_role("region", name="Loss", exact=True)
    expect(loss.locator(".u-label")).to_have_text(["step", "loss", "eval_loss"])
    loss.get_by_role("img").focus()
    made = loss.get_by_role("img").element_handle()
    page.emulate_media(color_scheme="dark")  # other colours rebuild the chart
    made.wait_for_element_state("hidden")
    expect(loss.get_by_role("img")).to_be_focused()


_VALUES_IN_A_SECOND = """select => new Promise(resolve => {
  const seen = new Set(), until = performance.now() + 1000;
  const look = () => (seen.add(select.value), performance.now() < until ? requestAnimationFrame(look) : resolve([...seen]));
  select.addEventListener("change", () => setTimeout(look), { once: true });
})"""


def test_a_choice_stands_while_the_address_follows_it(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    axis = page.get_by_role("combobox")
    values = axis.evaluate_handle(f"select => ({{ come: ({_VALUES_IN_A_SECOND})(select) }})")
    axis.select_option("time")
    assert values.evaluate("({ come }) => come") == ["time"]
    expect(page).to_have_url(re.compile("x=time"))


def test_the_system_charts_share_the_cursor_of_the_loss(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['running']}/system").page
    expect(page.get_by_text("No GPU")).to_be_visible()
    titles = ("Tokens per second", "Model FLOPs utilization (MFU)", "Memory", "Data wait")
    for title in titles:
        expect(page.get_by_role("region", name=title).locator(".u-over")).to_be_visible()
    expect_all_lines(page)
    hover(page, "Loss")
    at = legend(page, "Loss")[0]
    assert re.search(r"\d", at)
    assert [legend(page, title)[0] for title in titles] == [at] * len(titles)
    assert legend(page, "Model FLOPs utilization (MFU)")[1] == "40%"


def test_a_secret_in_a_librarys_message_is_masked_everywhere(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['failed']}/events").page
    expect(page.get_by_text("hf_••••••••: ask for access")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("hf_••••••••")
    assert SECRET not in page.content()


def log_lines(count: int) -> tuple[dict[str, Any], ...]:
    now = time.time()
    return tuple(
        {"type": "log", "level": "info", "message": f"line {number} of many", "data": None,
         "created_at": now + number / 1000}
        for number in range(count)
    )  # fmt: skip


def test_events_are_followed_and_a_linked_line_is_brought_into_view(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['preparing']}/events?follow=true").page
    expect(page.get_by_label("Follow")).to_be_checked()
    expect(page.get_by_text("claimed by past")).to_be_visible()
    past.record("preparing", events=log_lines(120))
    expect(page.get_by_text("line 119 of many")).to_be_in_viewport(timeout=5000)
    page.goto(f"{past.url}/jobs/{past.runs['preparing']}/events?line=60")
    expect(page.locator("[data-chosen=true]")).to_be_in_viewport()
    expect(page.locator("[data-chosen=true]")).to_contain_text("60")
    page.get_by_label("Level").select_option("warn")
    expect(page.get_by_text("line 119 of many")).to_have_count(0)


def test_a_linked_line_is_found_however_far_back_it_lies(past: Past, past_screen: Open) -> None:
    with past.database.write() as s:
        past.runs["talkative"] = bring_to(s, past.project_id, "pausing")
    past.record("talkative", events=log_lines(1600))
    line = past.show("talkative")["last_seq"] - 1590
    page = past_screen(f"/jobs/{past.runs['talkative']}/events?line={line}").page
    expect(page.locator("[data-chosen=true]")).to_contain_text("line 9 of many")
    expect(page.locator("[data-chosen=true]")).to_be_in_viewport()


def test_twenty_runs_are_compared_within_a_second_and_the_baseline_stays(past: Past, past_screen: Open) -> None:
    with past.http() as http:
        ids = [job["id"] for job in http.get("/v1/jobs?limit=20&status=succeeded").json()["data"]]
    page = past_screen("/jobs").page
    expect(page.locator("tbody tr").first).to_be_visible()
    address = f"{past.url}/compare?runs={quote(json.dumps(ids))}"
    took = []
    for _ in range(3):
        page.goto(address)
        page.locator("canvas").wait_for()
        took.append(page.evaluate("performance.now()"))
        expect(page.get_by_role("region", name="Outcome").get_by_role("row")).to_have_count(21)
    assert min(took) <= 1000 * crowding(), took
    more = page.get_by_role("button", name=re.compile("^Show all"))
    count = int(more.inner_text().split()[-1])
    more.click()
    expect(page.get_by_role("region", name="Differences").get_by_role("row")).to_have_count(count + 1)
    make = page.get_by_role("button", name="Make baseline")
    name = page.get_by_role("listitem").filter(has=make).nth(4).inner_text().split("\n")[0]
    assert name.strip()
    make.nth(4).click()
    baseline = page.get_by_role("listitem").filter(has_text="baseline").first
    expect(page).to_have_url(re.compile(re.escape(quote(f'["{ids[5]}"', safe=""))))
    expect(baseline).to_have_text(re.compile(re.escape(name)))
    page.reload()
    expect(baseline).to_have_text(re.compile(re.escape(name)))


_LINE_IS_DRAWN = """() => {
  const canvas = document.querySelector(".u-wrap canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((_, at) => at % 4 === 0 && data[at + 3] > 99 && data[at + 2] > data[at] + 60);
}"""


@pytest.mark.parametrize("axis", ["time", "tokens"])
def test_a_curve_that_begins_at_zero_is_drawn_on_a_logarithmic_axis(past_screen: Open, past: Past, axis: str) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics?x={axis}&logx=true").page
    page.locator(".u-wrap canvas").first.wait_for()
    expect_true(page, _LINE_IS_DRAWN)


def test_a_zoom_to_zero_does_not_empty_a_logarithmic_chart(past_screen: Open, past: Past) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics?x=time", allow=READ_BACK).page
    expect(page.get_by_role("region", name="Loss", exact=True).locator(".u-label")).to_have_count(3)
    page.get_by_role("region", name="Loss", exact=True).get_by_role("img").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("+")  # around the first point, which is at zero
    for logarithmic in (True, False):
        page.get_by_label("Log x").set_checked(logarithmic)
        expect_true(page, _LINE_IS_DRAWN)


def expect_true(page: Page, truth: str) -> None:
    for _ in range(50):
        if page.evaluate(truth):
            return
        page.wait_for_timeout(100)
    raise AssertionError(truth)


def test_two_runs_of_one_name_are_distinguished(past_screen: Open, past: Past) -> None:
    twins = [history.add_run(past.database, past.project_id, "twin", curve(40)) for _ in range(2)]
    page = past_screen(f"/compare?runs={quote(json.dumps(twins))}").page
    for twin in twins:
        expect(page.get_by_role("checkbox", name=f"twin …{twin[-6:]}")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_two_compared_runs_have_the_same_line(past: Past, past_screen: Open, theme: str) -> None:
    with past.http() as http:
        newest = http.get("/v1/jobs?limit=30&status=succeeded").json()["data"]
    ids = [job["id"] for job in newest if "loss" in job["progress"]][:14]
    page = past_screen(f"/compare?runs={quote(json.dumps(ids))}", theme).page
    expect(page.locator("canvas")).to_be_visible()
    for swatches in (page.locator("[data-swatch] path"), page.locator(".u-legend .u-marker path")):
        expect(swatches).to_have_count(len(ids))
        looks = swatches.evaluate_all(
            "paths => paths.map(path => [path.getAttribute('stroke'), path.getAttribute('stroke-dasharray')].join())"
        )
        assert len(set(looks)) == len(ids), looks


def test_an_older_job_is_compared_from_its_own_page(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}").page
    page.get_by_role("main").get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_role("checkbox", name="plain", exact=True)).to_be_visible()
    expect(page.get_by_text("Add an older job with Compare on its own page")).to_be_visible()
    offered = page.get_by_label("Add").locator("option")
    expect(offered).to_have_count(100)  # the hundred newest without this one, and the placeholder
    page.goto(f"{past.url}/jobs/{past.runs['short']}")
    page.get_by_role("main").get_by_role("link", name="Compare", exact=True).click()
    both = page.get_by_role("listitem").get_by_role("checkbox")
    expect(both).to_have_count(2)
    pages = page.get_by_role("navigation", name="Pages")
    pages.get_by_role("link", name="Jobs").click()
    pages.get_by_role("link", name="Compare").click()
    for name in ("plain", "short"):  # the navigation leads back to the same comparison
        expect(page.get_by_role("checkbox", name=name, exact=True)).to_be_visible()
    for left in (1, 0):
        page.get_by_role("button", name="Remove").first.click()
        expect(both).to_have_count(left)
    pages.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="No runs chosen")).to_be_visible()


def test_the_queue_shows_position_and_reason(past: Past, past_screen: Open) -> None:
    page = past_screen("/workers").page
    row = page.get_by_role("region", name="Queue").get_by_role("row").nth(1)
    expect(row).to_contain_text("no worker is alive")
    expect(row.get_by_role("cell").first).to_have_text("1")
    expect(row.get_by_role("link")).to_have_attribute("href", re.compile(past.runs["queued"]))
