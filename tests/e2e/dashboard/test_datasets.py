"""Data files: taking them in, what is wrong with them, and what a job learns from them."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, wait_ended
from tests.e2e.service import ROOT, Service

BROKEN = ROOT / "examples" / "broken.jsonl"


@pytest.fixture(scope="module")
def chat(service: Service) -> dict:
    """A model, and rows in whose tokens they are shown."""
    wait_ended(service, make_job(service, "tokens", steps=3))
    row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}]}
    lines = "".join(json.dumps(row | {"messages": row["messages"] * (1 + number % 5)}) + "\n" for number in range(60))
    with service.http() as http:
        files = {"file": ("chat.jsonl", lines.encode())}
        return http.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()


def test_every_fault_is_told_by_line_and_column_and_leads_to_its_row(service: Service, screen: Open) -> None:
    with service.http() as http, BROKEN.open("rb") as content:
        told = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": content}).json()["error"]["errors"]
    page = screen("/datasets").page
    page.locator("input[type=file]").set_input_files(BROKEN)
    expect(page.get_by_role("alert")).to_contain_text(f"{len(told)} faults")
    for fault in told:
        place = ":".join(str(fault[part]) for part in ("line", "column") if fault[part])
        expect(page.get_by_role("button", name=re.compile(f"^{place}\\b")).first).to_be_visible()
    page.get_by_role("button", name=re.compile("^3:54")).click()
    row = BROKEN.read_bytes().splitlines()[2].decode()
    expect(page.locator("pre").first).to_contain_text(row[60:80])


def test_faulty_lines_are_left_out_and_the_rest_is_uploaded(screen: Open) -> None:
    page = screen("/datasets").page
    page.locator("input[type=file]").set_input_files(BROKEN)
    page.get_by_role("button", name=re.compile("^Leave .* lines out")).click()
    expect(page.get_by_role("status")).to_contain_text("4 rows")
    expect(page.get_by_role("link", name="broken.jsonl").first).to_be_visible()


def test_the_mask_and_the_lengths_are_those_of_the_trainer(service: Service, screen: Open, chat: dict) -> None:
    spec = {"kind": "sft", "model": "tokens", "training_file": chat["id"]}
    with service.http() as http:
        asked = {"spec": spec, "limit": 5, "statistics": True}
        told = http.post("/v1/preview", json=asked, timeout=120).json()
    page = screen(f"/datasets/{chat['id']}?model=tokens/1").page
    line = page.get_by_role("article", name=f"Line {told['rows'][0]['line']}", exact=True)
    expect(line).to_be_visible(timeout=60_000)
    document = told["rows"][0]["documents"][0]
    learnt = "".join(piece for piece, trained in zip(document["pieces"], document["trained"], strict=True) if trained)
    assert "".join(line.locator("[data-trained=true]").all_inner_texts()) == learnt
    expect(line.locator("[data-trained=true]").first).to_have_css("text-decoration-line", "underline")
    lengths = page.get_by_role("region", name="Lengths of rows")
    expect(lengths).to_be_visible(timeout=60_000)
    statistics = told["statistics"][0]
    bars = [int(text) for text in lengths.locator("div > span:nth-child(3n)").all_inner_texts()]
    assert sum(bars) == statistics["rows"] == sum(statistics["lengths"]["counts"])


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
def test_datasets_models_and_workers_are_sound(
    screen: Open, shots: Path, service: Service, chat: dict, theme: str, width: int
) -> None:
    opened = screen("/datasets", theme, width)
    with service.http() as http:
        model = http.get("/v1/models").json()["data"][0]
    signs = {
        "/datasets": "chat.jsonl",
        f"/datasets/{chat['id']}?model=tokens/1": "tokens learnt",
        "/models": model["reference"],
        f"/models/model/{model['id']}": "Where it comes from",
        "/workers": "workers free",
    }
    for number, (path, sign) in enumerate(signs.items()):
        opened.open(path)
        expect(opened.page.get_by_role("main").get_by_text(sign).first).to_be_visible(timeout=60_000)
        opened.page.screenshot(path=shots / f"screen-{number}-{theme}-{width}.png", full_page=True)
        opened.check()


def test_every_node_of_the_lineage_is_a_link(screen: Open, service: Service, chat: dict) -> None:
    assert chat
    with service.http() as http:
        model = http.get("/v1/models", params={"name": "tokens"}).json()["data"][0]
    page = screen(f"/models/model/{model['id']}").page
    expect(page.get_by_role("listitem").filter(has_text="dataset").get_by_role("link", name="text.txt")).to_be_visible()
    page.get_by_role("link", name=model["job_id"]).click()
    expect(page.get_by_role("heading", name="tokens")).to_be_visible()


def test_the_workers_and_the_reason_for_waiting_are_shown(screen: Open, service: Service) -> None:
    first = make_job(service, "holds-the-worker", steps=100_000)
    second = make_job(service, "waits", steps=3)
    page = screen("/workers").page
    expect(page.get_by_text("busy")).to_be_visible(timeout=20_000)
    row = page.get_by_role("region", name="Queue").get_by_role("row", name=re.compile(second))
    with service.http() as http:
        reason = http.get(f"/v1/jobs/{second}").json()["waiting_reason"]
        expect(row).to_contain_text(reason[:20])
        for job_id in (first, second):
            http.post(f"/v1/jobs/{job_id}/cancel")
    wait_ended(service, first)
