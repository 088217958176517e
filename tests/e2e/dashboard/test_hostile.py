"""Names and values that could break a page: none of them runs as a script, breaks the layout or overlaps other text."""

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from benchmarks.children import history
from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.drawn import LINE, MARK, READ_BACK, heights
from tests.e2e.dashboard.past import MARKUP, RIGHT_TO_LEFT, Past

# Texts of the page that overlap, by the boxes of their lines.
_OVERLAPS = """(() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest(".visually-hidden, .u-legend, svg, option, script")) continue;
    if (!parent.checkVisibility({ visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const clip = clipOf(parent);
      const [left, right] = [Math.max(box.left, clip.left), Math.min(box.right, clip.right)];
      const [top, bottom] = [Math.max(box.top, clip.top), Math.min(box.bottom, clip.bottom)];
      if (right - left > 2 && bottom - top > 2) boxes.push({ left, right, top, bottom, node, text: node.data.slice(0, 40) });
    }
  }
  function clipOf(element) {
    const clip = { left: -1e9, right: 1e9, top: -1e9, bottom: 1e9 };
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      if (getComputedStyle(at).overflow === "visible") continue;
      const box = at.getBoundingClientRect();
      clip.left = Math.max(clip.left, box.left); clip.right = Math.min(clip.right, box.right);
      clip.top = Math.max(clip.top, box.top); clip.bottom = Math.min(clip.bottom, box.bottom);
    }
    return clip;
  }
  const found = [];
  boxes.sort((a, b) => a.top - b.top);
  for (let i = 0; i < boxes.length; i++) {
    for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom - 3; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (a.node !== b.node && wide > 3 && high > 3) found.push(`${a.text} / ${b.text}`);
    }
  }
  return found.slice(0, 5);
})()"""


def assert_nothing_overlaps(page: Page) -> None:
    assert page.evaluate(_OVERLAPS) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_markup_ten_kilobytes_and_right_to_left_are_names_like_any_other(
    past: Past, past_screen: Open, shots: Path, width: int
) -> None:
    opened = past_screen("/jobs", width=width)
    page = opened.page
    page.on("dialog", lambda dialog: pytest.fail(f"something ran: {dialog.message}"))
    for name, text in (("hostile", "alert(1)"), ("right-to-left", RIGHT_TO_LEFT[:10])):
        for path in ("metrics", "config"):
            opened.open(f"/jobs/{past.runs[name]}/{path}")
            expect(page.get_by_role("heading", level=1)).to_contain_text(text)
            expect(page.get_by_role("main").get_by_text("Clone")).to_be_visible()
            assert_nothing_overlaps(page)
            opened.check()
    for path in ("/jobs", f"/compare?runs={quote(json.dumps(list(past.runs.values())[:3]))}"):
        opened.open(path)
        expect(page.get_by_role("main").get_by_text("alert(1)").first).to_be_visible()
        page.screenshot(path=shots / f"hostile-{path[1:5]}-{width}.png")
        assert_nothing_overlaps(page)
        opened.check()


def test_a_name_with_markup_is_a_name_in_every_list(past: Past, past_screen: Open) -> None:
    opened = past_screen("/jobs", width=360)
    page = opened.page
    page.on("dialog", lambda dialog: pytest.fail(f"something ran: {dialog.message}"))
    for path in ("/datasets", "/models", "/keys", f"/datasets/{past.made[MARKUP[:200]]}"):
        opened.open(path)
        expect(page.get_by_role("main").get_by_text("<img src=x onerror=").first).to_be_visible()
        assert_nothing_overlaps(page)
        opened.check()
    opened.open("/playground")
    choices = page.get_by_label("Base: model, adapter or checkpoint").locator("option")
    expect(choices.filter(has_text="<img src=x onerror=").first).to_be_attached()
    opened.check()
    page.keyboard.press("Control+k")
    page.keyboard.type("<script>")
    found = page.get_by_role("listbox", name="Results").get_by_role("option")
    expect(found.filter(has_text="<script>alert(1)").first).to_be_visible()
    opened.check()


def test_five_hundred_hyperparameters_are_all_shown(past: Past, past_screen: Open) -> None:
    opened = past_screen(f"/jobs/{past.runs['many-values']}/config", width=360)
    expect(opened.page.get_by_role("region", name="hyperparameters").get_by_role("row")).to_have_count(500)
    assert_nothing_overlaps(opened.page)
    opened.check()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_that_are_not_finite_are_gaps_with_a_mark_and_a_warning(
    past: Past, past_screen: Open, theme: str
) -> None:
    page = past_screen(f"/jobs/{past.runs['not-finite']}/metrics?table=true", theme, allow=READ_BACK).page
    loss = page.get_by_role("region", name="Loss", exact=True)
    expect(loss.get_by_text(re.compile("3 values were not finite.*first at step 100"))).to_be_visible()
    expect(loss.get_by_role("row", name=re.compile("^101 ")).get_by_role("cell").nth(3)).to_have_text("not finite")
    # Steps 100, 101 and 250 of 400; the mark has a red that nothing else of a chart has.
    for left, right, marked in ((0.2, 0.3, True), (0.35, 0.55, False), (0.6, 0.65, True), (0.7, 1.0, False)):
        assert bool(heights(loss, MARK[theme], left, right)) is marked, (left, right)
    assert not heights(page.get_by_role("region", name="Gradient norm"), MARK[theme])


@pytest.fixture(scope="module")
def long_run(past: Past) -> str:
    """A hundred thousand steps: one of them stands out, and one was not finite."""
    figures = history.curve(100_000, spike_at=62_500)
    figures[80_003]["values"]["loss"] = None
    return history.add_run(past.database, past.project_id, "long-run", figures)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_spike_of_one_step_among_a_hundred_thousand_is_painted(past_screen: Open, long_run: str, theme: str) -> None:
    page = past_screen(f"/jobs/{long_run}/metrics", theme, allow=READ_BACK).page
    label = re.compile(f"^Loss over 100,000 points.*highest {history.SPIKE:.0f}$")
    expect(page.get_by_role("img", name=label)).to_be_visible(timeout=20_000)
    expect(page.get_by_text(re.compile("1 value was not finite.*step 80,004"))).to_be_visible()
    loss = page.get_by_role("region", name="Loss", exact=True)
    assert max(heights(loss, LINE[theme], 0.62, 0.63)) > 0.9
    assert 0 < max(heights(loss, LINE[theme], 0.64, 1.0)) < 0.5
    assert heights(loss, MARK[theme], 0.79, 0.81)


def test_a_job_without_records_says_so_on_every_tab(past: Past, past_screen: Open) -> None:
    opened = past_screen(f"/jobs/{past.runs['silent']}/metrics", width=360)
    expect(opened.page.get_by_text("This job has no metrics")).to_be_visible()
    for part, text in (("system", "No measurements yet"), ("events", "succeeded"), ("artifacts", "")):
        opened.open(f"/jobs/{past.runs['silent']}/{part}")
        expect(opened.page.get_by_role("main").get_by_text(text).first).to_be_visible()
        opened.check()
