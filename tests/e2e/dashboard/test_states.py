"""A job's page in every state, its figures, events and machine; runs compared; the queue."""

import json
import re
import time
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.past import SECRET, STEPS, Past, bring_to, crowding, point

SENTENCES = {
    "queued": "Waiting: .*no worker is alive",
    "preparing": "A worker lays out the data and the base model",
    "running": "about 1 min left",
    "pausing": "It saves a checkpoint and then frees its worker",
    "paused": "Resume lets it go on",
    "failed": f"It failed at step {STEPS}",
    "cancelled": f"It was stopped on request at step {STEPS}",
    "plain": "Done in",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_each_state_has_a_sentence_and_the_pill_of_the_service(past: Past, past_screen: Open, name: str) -> None:
    page = past_screen(f"/jobs/{past.runs[name]}").page
    expect(page.get_by_role("main").get_by_text(re.compile(SENTENCES[name]))).to_be_visible()
    expect(page.get_by_role("main").get_by_text(past.show(name)["status"], exact=True).first).to_be_visible()


def test_a_row_of_the_list_tells_sparkline_last_loss_and_what_is_left(past: Past, past_screen: Open) -> None:
    row = past_screen("/jobs?status=running").page.get_by_role("row", name=re.compile("running"))
    expect(row.get_by_text("1 min left")).to_be_visible()
    expect(row.get_by_role("img", name="Loss of running")).to_be_visible()
    loss = past.show("running")["progress"]["loss"]
    expect(row).to_contain_text(f"{loss:.4g}")


def test_a_point_is_seen_within_two_seconds_of_being_told(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['pausing']}/metrics").page
    chart = page.get_by_role("img", name=re.compile("^Loss over 400 points"))
    expect(chart).to_be_visible()
    past.tell("pausing", point(STEPS + 1, 2.5))
    expect(page.get_by_role("img", name=re.compile("^Loss over 401 points.* to 2.5,"))).to_be_visible(timeout=2000)


def legend(page: Page, title: str) -> list[str]:
    return page.get_by_role("region", name=title, exact=True).locator(".u-value").all_inner_texts()


def hover(page: Page, title: str) -> None:
    """The cursor comes to the middle of a chart."""
    page.get_by_role("region", name=title, exact=True).locator(".u-over").hover()


def test_the_full_range_is_shown_over_steps_tokens_and_time(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics?table=true").page
    table = page.get_by_role("region", name="Loss", exact=True).get_by_role("region", name="Figures of the chart")
    expect(table.get_by_role("row")).to_have_count(STEPS + 1)
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
    # What is constant stays so: the highest gradient norm is the lowest, smoothed or not.
    page.get_by_label("Table").check()
    cells = page.get_by_role("region", name="Gradient norm").locator("tbody tr td:nth-child(5)")
    assert set(cells.all_inner_texts()) == {"1"}


def test_both_axes_can_be_logarithmic_and_stay_so_after_a_reload(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    page.get_by_label("Log x").check()
    page.get_by_label("Log y").check()
    expect(page).to_have_url(re.compile("logx=true&logy=true"))  # a moment after it is drawn
    page.reload()
    expect(page.get_by_label("Log x")).to_be_checked()
    expect(page.get_by_label("Log y")).to_be_checked()
    hover(page, "Loss")
    # Halfway between 1 and 1000, where such an axis ends, lies 32; on a plain one it is 200.
    expect(page.get_by_role("region", name="Loss", exact=True).locator(".u-value").first).to_have_text(
        re.compile("^3[0-4]$")
    )


def test_a_chart_is_read_zoomed_and_stripped_of_a_line_by_keyboard(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    loss = page.get_by_role("region", name="Loss", exact=True)
    step = loss.locator(".u-value").first
    expect(loss.locator(".u-label")).to_have_text(["step", "loss", "eval_loss"])  # the evaluations are drawn in too
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
    for title in ("Loss", "Gradient norm"):  # a click is no drag: nothing is zoomed
        page.get_by_role("region", name=title, exact=True).locator(".u-over").click()
    for _ in range(10):
        page.keyboard.press("Shift+ArrowRight")
    assert legend(page, "Gradient norm")[0] == str(STEPS)
    line = loss.get_by_role("button", name="loss", exact=True)
    line.press("Space")
    expect(line).to_have_attribute("aria-pressed", "false")
    expect(loss.locator(".u-series.u-off")).to_have_count(1)


def test_a_chart_that_is_made_anew_keeps_the_focus(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    loss = page.get_by_role("region", name="Loss", exact=True)
    expect(loss.locator(".u-label")).to_have_text(["step", "loss", "eval_loss"])
    loss.get_by_role("img").focus()
    made = loss.get_by_role("img").element_handle()
    page.emulate_media(color_scheme="dark")  # other colours are another drawing
    made.wait_for_element_state("hidden")
    expect(loss.get_by_role("img")).to_be_focused()


_TOLD_IN_A_SECOND = """select => new Promise(tell => {
  const told = new Set(), until = performance.now() + 1000;
  const look = () => (told.add(select.value), performance.now() < until ? requestAnimationFrame(look) : tell([...told]));
  select.addEventListener("change", () => setTimeout(look), { once: true });
})"""


def test_a_choice_stands_while_the_address_follows_it(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['plain']}/metrics").page
    axis = page.get_by_role("combobox")
    told = axis.evaluate_handle(f"select => ({{ come: ({_TOLD_IN_A_SECOND})(select) }})")
    axis.select_option("time")
    assert told.evaluate("({ come }) => come") == ["time"]
    expect(page).to_have_url(re.compile("x=time"))


def test_the_machines_figures_stand_under_the_same_cursor_as_the_loss(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['running']}/system").page
    expect(page.get_by_text("No GPU")).to_be_visible()
    titles = ("Tokens a second", "Share of the machine's matmul rate (MFU)", "Memory", "Waiting for data")
    for title in titles:
        expect(page.get_by_role("region", name=title).locator(".u-over")).to_be_visible()
    hover(page, "Loss")
    at = legend(page, "Loss")[0]
    assert re.search(r"\d", at)
    assert [legend(page, title)[0] for title in titles] == [at] * len(titles)
    assert legend(page, "Share of the machine's matmul rate (MFU)")[1] == "40%"


def test_a_secret_that_a_library_told_is_masked_wherever_it_stands(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['failed']}/events").page
    expect(page.get_by_text("hf_••••••••: ask for access")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("hf_••••••••")
    assert SECRET not in page.content()


def said(count: int) -> tuple[dict[str, Any], ...]:
    told_at = time.time()
    return tuple(
        {"type": "log", "level": "info", "message": f"line {number} of many", "data": None,
         "created_at": told_at + number / 1000}
        for number in range(count)
    )  # fmt: skip


def test_events_are_followed_and_a_linked_line_is_brought_into_view(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['preparing']}/events?follow=true").page
    expect(page.get_by_label("Follow")).to_be_checked()
    expect(page.get_by_text("claimed by past")).to_be_visible()
    past.tell("preparing", events=said(120))
    expect(page.get_by_text("line 119 of many")).to_be_in_viewport(timeout=5000)
    page.goto(f"{past.url}/jobs/{past.runs['preparing']}/events?line=60")
    expect(page.locator("[data-chosen=true]")).to_be_in_viewport()
    expect(page.locator("[data-chosen=true]")).to_contain_text("60")
    page.get_by_label("Level").select_option("warn")
    expect(page.get_by_text("line 119 of many")).to_have_count(0)


def test_a_linked_line_is_found_however_far_back_it_lies(past: Past, past_screen: Open) -> None:
    with past.database.write() as s:
        past.runs["talkative"] = bring_to(s, past.project_id, "pausing")
    past.tell("talkative", events=said(1600))
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


def test_the_queue_tells_place_and_reason(past: Past, past_screen: Open) -> None:
    page = past_screen("/workers").page
    row = page.get_by_role("region", name="Queue").get_by_role("row").nth(1)
    expect(row).to_contain_text("no worker is alive")
    expect(row.get_by_role("cell").first).to_have_text("1")
    expect(row.get_by_role("link")).to_have_attribute("href", re.compile(past.runs["queued"]))
