"""The playground: two models side by side, each answer with the digest of the weights that gave it."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, wait_ended
from tests.e2e.service import Service

PROMPT = "What is 2 + 2?"
COLD_MS = 120_000
"""The first question starts an engine, which takes long on a busy machine."""


@pytest.fixture(scope="module")
def pair(service: Service) -> dict[str, dict[str, Any]]:
    """A base model, and an adapter on it that answers differently."""
    room = {"max_steps": 20, "max_length": 512, "per_device_train_batch_size": 2}
    wait_ended(service, make_job(service, "plain", hyperparameters=room))
    rows = "".join(json.dumps({"prompt": PROMPT, "completion": f"It is {number}."}) + "\n" for number in range(40))
    with service.http() as http:
        file = http.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("sums.jsonl", rows.encode())}
        ).json()
    learning = {"max_steps": 10, "max_length": 64, "per_device_train_batch_size": 4, "learning_rate": 0.05}
    job = make_job(
        service, "spoken", kind="sft", model="plain", training_file=file["id"], tokenizer=None, hyperparameters=learning
    )
    assert wait_ended(service, job)["status"] == "succeeded"
    with service.http() as http:
        return {"base": http.get("/v1/models/plain/1").json(), "tuned": http.get("/v1/adapters/spoken/1").json()}


def pane(page: Page, side: str) -> Locator:
    return page.get_by_role("region", name=side, exact=True)


def ask(page: Page, prompt: str = PROMPT) -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.keyboard.press("Enter")


def slow_down(page: Page) -> None:
    """Throttle the network, so that an answer of 480 tokens takes seconds: otherwise it is complete before the first paint."""
    link = {"offline": False, "latency": 0, "downloadThroughput": 30_000, "uploadThroughput": -1}
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", link)


def answers(page: Page) -> dict[str, str]:
    """Return the last answers of both sides, once they are complete."""
    for side in ("Base", "Tuned"):
        expect(pane(page, side).locator("article[aria-busy=false] [data-digest]").first).to_be_visible(timeout=COLD_MS)
    return {side: pane(page, side).locator("[data-answer]").last.text_content() or "" for side in ("Base", "Tuned")}


def direct(service: Service, model: str, **more: Any) -> dict[str, Any]:
    """The API's own answer."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 24}
    with service.http() as http:
        answer = http.post("/v1/chat/completions", json=body | more, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_base_beside_its_adapter_answers_as_through_the_api(service: Service, screen: Open, pair: dict) -> None:
    page = screen("/playground?tuned=spoken/1&max_tokens=24").page
    chooser = re.compile("model, adapter or checkpoint")
    expect(pane(page, "Base").get_by_label(chooser)).to_have_value("plain/1")
    ask(page)
    given = answers(page)
    base, tuned = direct(service, "plain/1"), direct(service, "spoken/1")
    assert given == {side: it["choices"][0]["message"]["content"] for side, it in (("Base", base), ("Tuned", tuned))}
    assert given["Base"] != given["Tuned"]
    assert pane(page, "Base").locator("[data-digest]").get_attribute("data-digest") == pair["base"]["digest"]
    named = [one.get_attribute("data-digest") for one in pane(page, "Tuned").locator("[data-digest]").all()]
    assert named == [pair["tuned"]["digest"], pair["base"]["digest"]]


def test_an_answer_grows_as_it_is_written_and_stops_when_asked_to(screen: Open, pair: dict) -> None:
    page = screen("/playground?base=-&tuned=plain/1&max_tokens=480&plain=true").page
    slow_down(page)
    ask(page, "To be, or not")
    answer_text = pane(page, "Tuned").locator("[data-answer]")
    seen = set()
    while len(seen) < 3:
        seen.add(len(answer_text.text_content(timeout=COLD_MS) or ""))
        assert page.get_by_role("button", name="Stop").is_visible(), seen
    page.get_by_role("button", name="Stop").click()
    expect(pane(page, "Tuned")).to_contain_text("stopped")
    stopped = answer_text.text_content()
    page.wait_for_timeout(500)
    assert answer_text.all_text_contents() == [stopped]  # not longer, and no second answer
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_both_answers_grow_as_they_are_written(screen: Open, pair: dict) -> None:
    # The base model on both sides: the adapter's short answers may be complete before the test looks at them.
    page = screen("/playground?base=plain/1&tuned=plain/1&max_tokens=480&plain=true").page
    slow_down(page)
    ask(page, "To be, or not")
    seen: dict[str, set[str]] = {"Base": set(), "Tuned": set()}
    while min(map(len, seen.values())) < 3:
        for side, texts in seen.items():
            written = pane(page, side).locator("article[aria-busy=true] [data-answer]").all_text_contents()
            texts.update(filter(None, written))
        assert page.get_by_role("button", name="Stop").is_visible(), seen
    page.get_by_role("button", name="Stop").click()


def test_a_reload_restores_models_sampling_and_conversation(screen: Open, pair: dict) -> None:
    page = screen("/playground?tuned=spoken/1").page
    page.get_by_label("Max tokens").fill("8")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("System message").fill("Be brief.")
    page.get_by_label("Base: model, adapter or checkpoint").select_option("spoken/1")
    ask(page)
    given = answers(page)
    page.get_by_label("Prompt").fill("And then?")
    expect(page).to_have_url(re.compile("prompt=And"))
    page.reload()
    assert answers(page) == given
    expect(page.get_by_label("Prompt")).to_have_value("And then?")
    for label, value in (("Max tokens", "8"), ("Seed", "7"), ("System message", "Be brief.")):
        expect(page.get_by_label(label)).to_have_value(value)
    expect(page.get_by_label("Base: model, adapter or checkpoint")).to_have_value("spoken/1")


def test_an_error_is_shown_on_its_side_and_the_other_answers(screen: Open, pair: dict) -> None:
    opened = screen("/playground?base=nobody-at-all&tuned=plain/1&max_tokens=8", allow="status of 404")
    ask(opened.page)
    expect(pane(opened.page, "Base").get_by_role("alert")).to_contain_text("no model", timeout=COLD_MS)
    expect(pane(opened.page, "Tuned").locator("[data-digest]").first).to_be_visible(timeout=COLD_MS)


def test_a_checkpoint_answers_under_its_own_digest(service: Service, screen: Open, pair: dict) -> None:
    with service.http() as http:
        saved = http.get("/v1/checkpoints", params={"job_id": pair["tuned"]["job_id"]}).json()["data"][0]
    page = screen("/playground?max_tokens=8").page
    page.get_by_label("Tuned: model, adapter or checkpoint").select_option(saved["id"])
    ask(page)
    answers(page)
    assert pane(page, "Tuned").locator("[data-digest]").first.get_attribute("data-digest") == saved["digest"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_playground_passes_the_checks(screen: Open, shots: Path, pair: dict, theme: str) -> None:
    opened = screen(f"/playground?tuned=spoken/1&max_tokens=8&system={quote('Be brief.')}", theme)
    ask(opened.page)
    answers(opened.page)
    opened.page.screenshot(path=shots / f"playground-{theme}.png", full_page=True)
    opened.check_both_widths()
