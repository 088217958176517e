"""Signing in, the list of jobs, and the frame around every page."""

import re

from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, wait_ended
from tests.e2e.dashboard.past import Past
from tests.e2e.service import Service


def test_a_wrong_key_is_refused_and_a_right_one_opens_the_jobs(visit: Open, service: Service) -> None:
    page = visit("/", allow="status of 401").page
    page.get_by_label("API key").fill("ty-" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong or has been revoked")
    page.get_by_label("API key").fill((service.home / "credentials").read_text())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def test_a_key_in_the_address_leaves_it_and_signs_in_only_when_asked_to(visit: Open, service: Service) -> None:
    page = visit(f"/jobs#key={(service.home / 'credentials').read_text().strip()}").page
    expect(page.get_by_label("API key")).to_have_value((service.home / "credentials").read_text().strip())
    assert "key" not in page.url
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()


def test_signing_out_leads_back_to_the_key(visit: Open, service: Service) -> None:
    screen = visit(f"/#key={(service.home / 'credentials').read_text().strip()}")
    page = screen.page
    page.get_by_role("button", name="Sign in").click()
    screen.allow = "status of 401"  # a request of the list that was open when the session ended
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_job_made_through_the_api_appears_within_two_seconds_and_runs_to_its_end(
    service: Service, screen: Open
) -> None:
    page = screen("/jobs").page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    job_id = make_job(service, "appearing", steps=60)
    row = page.get_by_role("row", name=re.compile("appearing"))
    expect(row).to_be_visible(timeout=2000)
    wait_ended(service, job_id)
    expect(row.get_by_text("succeeded")).to_be_visible(timeout=2000)
    expect(row.get_by_role("img", name=re.compile("Loss of appearing"))).to_be_visible()


def test_filters_are_in_the_address_and_survive_reload_and_back(past_screen: Open) -> None:
    page = past_screen("/jobs").page
    page.get_by_role("link", name="succeeded", exact=True).click()
    expect(page).to_have_url(re.compile("status=succeeded"))
    page.get_by_label("Kind").select_option("dpo")
    expect(page.get_by_text("No matching jobs")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("dpo")
    page.go_back()
    expect(page.get_by_role("link", name="many-values", exact=True).first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/jobs\?status=succeeded$"))
    assert set(page.locator("tbody tr td:nth-child(2)").all_inner_texts()) == {"succeeded"}


def test_the_palette_leads_to_a_job_by_the_keyboard_alone(past: Past, past_screen: Open) -> None:
    page = past_screen("/jobs").page
    expect(page.get_by_role("link", name="many-values").first).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("many-values")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/jobs/{past.runs['many-values']}"))
    expect(page.get_by_role("heading", name="many-values")).to_be_visible()


def test_the_help_lists_the_shortcuts(screen: Open) -> None:
    page = screen("/jobs").page
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help")).to_contain_text("Ctrl")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_theme_is_the_systems_until_another_is_chosen_and_then_stays(screen: Open) -> None:
    page = screen("/jobs", theme="dark").page
    background = "getComputedStyle(document.body).backgroundColor"
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert page.evaluate(background) == "rgb(15, 20, 25)"
    page.get_by_role("button", name=re.compile("^Theme")).click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_while_the_service_is_away_the_page_says_so_and_dates_what_it_shows(past_screen: Open) -> None:
    page = past_screen("/jobs", allow="net::ERR_INTERNET_DISCONNECTED").page
    row = page.get_by_role("link", name="many-values", exact=True).first
    expect(row).to_be_visible()
    page.context.set_offline(True)
    banner = page.get_by_role("status")
    expect(banner).to_contain_text(re.compile(r"This page shows data from \d\d:\d\d:\d\d"))
    expect(row).to_be_visible()
    page.context.set_offline(False)
    expect(banner).to_have_count(0)
