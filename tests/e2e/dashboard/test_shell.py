"""The frame of every page: help, shortcuts, dialogs and the palette."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job
from tests.e2e.dashboard.past import Past


def arrived(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def test_every_shortcut_in_the_help_works(past_screen: Open) -> None:
    page = past_screen("/workers").page
    expect(arrived(page)).to_be_visible()
    page.keyboard.press("?")
    help_dialog = page.get_by_role("dialog", name="Help")
    keys = help_dialog.locator("dt").all()
    listed = {
        " ".join(key.locator("kbd").all_inner_texts()): key.locator("xpath=following-sibling::dd[1]").inner_text()
        for key in keys
    }
    chords = {keys: title for keys, title in listed.items() if keys.startswith("g ")}
    links = page.get_by_role("navigation", name="Pages").get_by_role("link", include_hidden=True).all_inner_texts()
    assert sorted(chords.values()) == sorted(links)
    assert {"Ctrl K", "?", "n", "Esc"} <= set(listed)
    page.keyboard.press("Escape")
    expect(help_dialog).to_have_count(0)
    for chord, title in [*chords.items(), ("n", "New job")]:
        for key in chord.split():
            page.keyboard.press(key)
        expect(page).to_have_title(re.compile(title.split()[0]))
        expect(arrived(page)).to_be_visible()


def test_shortcuts_are_plain_letters_in_a_text_field(past_screen: Open) -> None:
    page = past_screen("/jobs/new?spec=%7B%22kind%22:%22sft%22%7D").page
    field = page.get_by_label("suffix")
    field.press_sequentially("gj?n")
    expect(field).to_have_value("gj?n")
    expect(arrived(page)).to_have_text("New job")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_shortcuts_of_one_letter_can_be_turned_off(past_screen: Open) -> None:
    page = past_screen("/workers").page
    expect(arrived(page)).to_be_visible()
    page.get_by_role("button", name="Help and shortcuts").click()
    page.get_by_role("dialog", name="Help").get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    for _ in range(2):
        expect(page.get_by_role("dialog")).to_have_count(0)
        for key in ("?", "n", "g", "j"):
            page.keyboard.press(key)
        page.keyboard.press("Control+k")
        expect(page.get_by_role("dialog", name="Go to")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(1)
        expect(arrived(page)).to_have_text("Workers and queue")
        page.reload()
        expect(arrived(page)).to_be_visible()
    page.get_by_role("button", name="Help and shortcuts").click()
    page.get_by_role("dialog", name="Help").get_by_role("checkbox").check()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(arrived(page)).to_have_text("New job")


def test_a_failure_to_sign_out_is_shown(past_screen: Open) -> None:
    page = past_screen("/workers", allow="net::ERR_").page
    page.route("**/v1/session", lambda route: route.abort() if route.request.method == "DELETE" else route.continue_())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_contain_text("does not respond")
    page.unroute("**/v1/session")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_dialog_gives_the_focus_back(past: Past, past_screen: Open) -> None:
    page = past_screen(f"/jobs/{past.runs['running']}").page
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    for close in ("Keep running", "Close"):
        cancel.focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name=close).press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(cancel).to_be_focused()


def test_the_palette_is_used_with_the_arrow_keys(past: Past, past_screen: Open) -> None:
    job_id = make_job(past, "by-arrows")
    page = past_screen("/jobs").page
    expect(page.get_by_role("link", name="by-arrows").first).to_be_visible()
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Go to a page or a job")
    expect(field).to_be_focused()
    field.press_sequentially("theme")
    options = page.get_by_role("listbox", name="Results").get_by_role("option")
    expect(options).to_have_count(3)
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("Control+k")
    field.press_sequentially(job_id[-8:])
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(job_id))
    page.keyboard.press("Control+k")
    field.press_sequentially("no such thing anywhere")
    expect(page.get_by_role("dialog")).to_contain_text("No page, action or recent job matches")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_menu_on_a_phone_is_usable_by_keyboard(past_screen: Open) -> None:
    page = past_screen("/datasets", width=360).page
    page.get_by_role("button", name="Menu").focus()
    page.keyboard.press("Enter")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Models").focus()
    page.keyboard.press("Enter")
    expect(arrived(page)).to_have_text("Models and adapters")
    expect(page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_help_and_palette_pass_the_checks(past_screen: Open, shots: Path, theme: str, width: int) -> None:
    opened = past_screen("/workers", theme, width)
    expect(arrived(opened.page)).to_be_visible()
    for key, name in (("?", "Help"), ("Control+k", "Go to")):
        opened.page.keyboard.press(key)
        expect(opened.page.get_by_role("dialog", name=name)).to_be_visible()
        opened.page.screenshot(path=shots / f"{name.lower().replace(' ', '-')}-{theme}-{width}.png")
        opened.check()
        opened.page.keyboard.press("Escape")
        expect(opened.page.get_by_role("dialog")).to_have_count(0)
