"""Signing in, the list of jobs, and what stands around every page."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.dashboard import past as pasts
from tests.e2e.dashboard.conftest import Open, sign_in
from tests.e2e.dashboard.jobs import make_job, wait_ended
from tests.e2e.dashboard.past import Past
from tests.e2e.service import ROOT, Service, environment_of


def test_a_wrong_key_is_told_and_a_right_one_opens_the_jobs(browser: Browser, service: Service) -> None:
    page = browser.new_context().new_page()
    page.goto(service.state()["url"])
    page.get_by_label("API key").fill("ty-" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong or has been revoked")
    page.get_by_label("API key").fill((service.home / "credentials").read_text())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.context.close()


def test_a_key_in_the_address_leaves_it_and_signs_in_only_when_asked_to(browser: Browser, service: Service) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{service.state()['url']}/jobs#key={(service.home / 'credentials').read_text().strip()}")
    expect(page.get_by_label("API key")).to_have_value((service.home / "credentials").read_text().strip())
    assert "key" not in page.url
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.context.close()


def test_signing_out_leads_back_to_the_key(browser: Browser, service: Service) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{service.state()['url']}/#key={(service.home / 'credentials').read_text().strip()}")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    page.context.close()


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


def test_the_empty_list_shows_a_command_that_makes_a_row_appear(browser: Browser, tmp_path: Path) -> None:
    with pasts.serve(tmp_path / "home") as empty:
        page = browser.new_context(storage_state=sign_in(browser, empty.url, empty.key)).new_page()
        page.goto(f"{empty.url}/jobs")
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        program, *arguments = shlex.split(page.locator("main code").inner_text())
        environment = environment_of(empty.home) | {"TRAINYARD_URL": empty.url}
        subprocess.run([ROOT / program, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)
        expect(page.get_by_role("row", name=re.compile("shakespeare"))).to_be_visible(timeout=5000)
        page.context.close()


def test_filters_stand_in_the_address_and_survive_reload_and_back(past_screen: Open) -> None:
    page = past_screen("/jobs").page
    page.get_by_role("link", name="succeeded", exact=True).click()
    expect(page).to_have_url(re.compile("status=succeeded"))
    page.get_by_label("Kind").select_option("dpo")
    expect(page.get_by_text("No job is like that")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("dpo")
    page.go_back()
    expect(page.get_by_role("link", name="many-values", exact=True).first).to_be_visible()


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


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
def test_the_list_is_sound_in_both_themes_and_on_a_phone(
    past_screen: Open, shots: Path, theme: str, width: int
) -> None:
    opened = past_screen("/jobs", theme, width)
    expect(opened.page.get_by_role("link", name="many-values", exact=True).first).to_be_visible()
    opened.page.screenshot(path=shots / f"jobs-{theme}-{width}.png")
    opened.check()


def test_while_the_service_is_away_the_page_says_so_and_dates_what_it_shows(past_screen: Open) -> None:
    page = past_screen("/jobs").page
    row = page.get_by_role("link", name="many-values", exact=True).first
    expect(row).to_be_visible()
    page.context.set_offline(True)
    banner = page.get_by_role("status")
    expect(banner).to_contain_text(re.compile(r"What you see is from \d\d:\d\d:\d\d"))
    expect(row).to_be_visible()
    page.context.set_offline(False)
    expect(banner).to_have_count(0)
