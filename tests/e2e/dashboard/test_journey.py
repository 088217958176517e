"""From an empty project to a downloaded adapter through the dashboard alone, without a terminal.

Every step leaves a screenshot in build/e2e. The test presses only what the page offers; it makes only the sizes smaller.
"""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.dashboard.conftest import tabs
from tests.e2e.service import Service

RUN_MS = 300_000
QUESTION = "Natalia sold 48 clips in April, and half as many in May. How many clips did she sell?"
Shoot = Callable[[str], None]


def shooter(page: Page, folder: Path) -> Shoot:
    """Return a function that takes numbered screenshots."""
    taken: list[str] = []

    def shoot(name: str) -> None:
        taken.append(name)
        page.screenshot(path=folder / f"journey-{len(taken)}-{name}.png", full_page=True)

    return shoot


def create(page: Page, **sizes: str) -> None:
    """Create the job with smaller sizes."""
    hyperparameters = page.get_by_text("hyperparameters", exact=True)
    if not page.get_by_label("max_steps").is_visible():
        hyperparameters.click()
    for label, value in sizes.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Create job").click()


def wait_done(page: Page) -> None:
    expect(page.get_by_role("main").get_by_text("succeeded", exact=True)).to_be_visible(timeout=RUN_MS)


def make_base(page: Page, shoot: Shoot) -> None:
    """Train a base model on the sample text."""
    guide = page.get_by_role("region", name="Getting started")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(guide.locator("[aria-current=step]")).to_contain_text("Train a base model")
    shoot("empty")
    guide.get_by_role("button", name="Start with the sample text").click()
    expect(page.get_by_label("suffix")).to_have_value("shakespeare", timeout=30_000)
    shoot("form")
    create(
        page, model="{hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2}", max_steps="40", max_length="256"
    )
    expect(page.get_by_role("heading", name="shakespeare")).to_be_visible()
    wait_done(page)
    shoot("base")


def see_what_is_learnt(page: Page, shoot: Shoot) -> None:
    """Open the loss mask of the sample rows."""
    page.get_by_role("link", name="Jobs").first.click()
    step = page.locator("[aria-current=step]")
    expect(step).to_contain_text("Fine-tune it on questions and answers")
    shoot("next")
    step.get_by_role("button", name="Use the sample rows").click()
    expect(page.locator("[data-trained=true]").first).to_be_visible(timeout=120_000)
    shoot("mask")


def tune(page: Page, shoot: Shoot) -> None:
    page.get_by_role("link", name="Train on this").click()
    expect(page.get_by_label("model", exact=True)).to_have_value("shakespeare/1")
    create(page, suffix="my-bot", max_steps="20", max_length="256")
    expect(page.get_by_role("heading", name="my-bot")).to_be_visible()
    wait_done(page)
    shoot("tuned")


def compare(page: Page, shoot: Shoot) -> None:
    """Ask both models the same question."""
    page.get_by_role("link", name="Open in playground").click()
    page.get_by_label("Max tokens").fill("40")
    page.get_by_label("Prompt").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    sides: list[tuple[Locator, str]] = [
        (page.get_by_role("region", name=side, exact=True), name)
        for side, name in (("Base", "shakespeare/1"), ("Tuned", "my-bot/1"))
    ]
    for side, name in sides:
        expect(side.locator("article[aria-busy=false]").get_by_role("link", name=name)).to_be_visible(timeout=RUN_MS)
    shoot("compared")


def take_along(page: Page, shoot: Shoot) -> bytes:
    """Download the adapter."""
    page.get_by_role("region", name="Tuned", exact=True).get_by_role("link", name="my-bot/1").click()
    lineage = page.get_by_role("region", name="Lineage drawing")
    expect(lineage.get_by_role("link", name="dataset")).to_have_count(2)
    shoot("adapter")
    with page.expect_download() as download:
        page.get_by_role("link", name="tar of my-bot/1").click()
    return download.value.path().read_bytes()


@pytest.mark.timeout(900)
def test_from_the_empty_page_to_an_adapter(browser: Browser, own_service: Service, shots: Path) -> None:
    key = (own_service.home / "credentials").read_text().strip()
    with tabs(browser, own_service.state()["url"], None) as open_screen:
        page = open_screen(f"/#key={key}").page
        page.get_by_role("button", name="Sign in").click()
        shoot = shooter(page, shots)
        make_base(page, shoot)
        see_what_is_learnt(page, shoot)
        tune(page, shoot)
        compare(page, shoot)
        with tarfile.open(fileobj=io.BytesIO(take_along(page, shoot))) as archive:
            assert {"adapter_config.json", "adapter_model.safetensors"} <= set(archive.getnames())
