"""From the empty page to an adapter on one's own disk: with the mouse and the keys alone, no terminal, no manual."""

import io
import tarfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.service import ROOT, Service

EXAMPLES = ROOT / "examples"
RUN_MS = 240_000


def upload(page: Page, path: Path, purpose: str) -> None:
    page.get_by_role("link", name="Datasets").click()
    page.get_by_label("For").select_option(purpose)
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_role("status")).to_contain_text("is uploaded", timeout=30_000)
    page.get_by_role("link", name=path.name).click()
    expect(page.get_by_role("heading", name=path.name)).to_be_visible()


def create_and_wait(page: Page, suffix: str, steps: int, **values: str) -> None:
    """Fill in what a form needs, and see the job through."""
    page.get_by_role("link", name="Train on it").click()
    page.get_by_label("suffix").fill(suffix)
    page.get_by_text("hyperparameters", exact=True).click()
    page.get_by_label("max_steps").fill(str(steps))
    page.get_by_label("max_length").fill("128")
    for label, value in values.items():
        field = page.get_by_label(label, exact=True)
        field.select_option(value) if field.evaluate("it => it.tagName") == "SELECT" else field.fill(value)
    page.get_by_role("button", name="Create the job").click()
    expect(page.get_by_role("heading", name=suffix)).to_be_visible()
    expect(page.get_by_role("main").get_by_text("succeeded", exact=True)).to_be_visible(timeout=RUN_MS)


def test_from_the_empty_page_to_an_adapter(browser: Browser, own_service: Service, shots: Path, tmp_path: Path) -> None:
    text = tmp_path / "plays.txt"
    text.write_text("".join((EXAMPLES / "shakespeare.txt").read_text().splitlines(keepends=True)[:2000]))
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{own_service.state()['url']}/#key={(own_service.home / 'credentials').read_text().strip()}")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    page.screenshot(path=shots / "journey-1-empty.png")
    upload(page, text, "pretrain")
    create_and_wait(page, "my-base", 40, model="{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}")
    page.screenshot(path=shots / "journey-2-base.png")
    upload(page, EXAMPLES / "gsm8k_train.jsonl", "fine-tune")
    expect(page.locator("[data-trained=true]").first).to_be_visible(timeout=90_000)
    page.screenshot(path=shots / "journey-3-mask.png")
    create_and_wait(page, "my-bot", 20, model="my-base/1")
    page.screenshot(path=shots / "journey-4-tuned.png")
    page.get_by_role("link", name="Checkpoints and results").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="tar of my-bot/1").click()
    with tarfile.open(fileobj=io.BytesIO(download.value.path().read_bytes())) as archive:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(archive.getnames())
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name="my-bot/1", exact=True).click()
    expect(page.get_by_role("region", name="Lineage, drawn").get_by_role("link", name="dataset")).to_have_count(2)
    page.screenshot(path=shots / "journey-5-lineage.png")
    page.context.close()
