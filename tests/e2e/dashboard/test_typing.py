"""What is typed stays as it is typed, while the page and its address follow."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.dashboard.conftest import Open


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_a_caret_inside_of_a_text_stays_there(past_screen: Open) -> None:
    opened = past_screen("/jobs")
    for path, label in (("/jobs/new", "suffix"), ("/playground", "System message")):
        page = opened.open(path)
        field = page.get_by_label(label, exact=True)
        field.fill("my-bot")
        press(page, "Home", "ArrowRight", "ArrowRight")
        page.keyboard.type("XY")
        expect(field).to_have_value("myXY-bot")


def test_a_section_stays_open_while_its_only_value_is_replaced(past_screen: Open) -> None:
    page = past_screen("/jobs/new").page
    page.get_by_text("hyperparameters", exact=True).click()
    field = page.get_by_label("max_steps")
    field.click()
    for key, value in (("5", "5"), ("Backspace", ""), ("7", "7")):
        page.keyboard.press(key)
        expect(field).to_have_value(value)
        expect(field).to_be_focused()


def test_a_number_may_begin_with_one_that_is_not_allowed(past_screen: Open) -> None:
    page = past_screen("/playground").page
    field = page.get_by_label("Top p")
    field.press_sequentially("0.05")
    expect(field).to_have_value("0.05")
    expect(page).to_have_url(re.compile("top_p=0.05"))
    field.fill("3")
    field.blur()
    expect(field).to_have_value("0.05")


def test_a_change_from_outside_replaces_what_was_typed(past_screen: Open) -> None:
    page = past_screen("/playground?top_p=0.5").page
    field = page.get_by_label("Top p")
    expect(field).to_have_value("0.5")
    page.evaluate("history.pushState(history.state, '', '/playground?top_p=0.25')")
    page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
    expect(field).to_have_value("0.25")
