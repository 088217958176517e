"""Data files: upload, faults, and how a job trains on their rows."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, wait_ended
from tests.e2e.dashboard.past import Past
from tests.e2e.service import ROOT, Service

BROKEN = ROOT / "examples" / "broken.jsonl"


LONG = {"messages": [{"role": "user", "content": "Why? " * 240}, {"role": "assistant", "content": "So."}]}
"""No token of this row is trained on: the question alone is longer than the 1,024 tokens that a job reads of a row."""


def chat_rows() -> list[dict[str, Any]]:
    """All different; every fifth is too long, and so is LONG, the second line. None of lines 1 to 3 is held out."""
    rows = []
    for number in range(60):
        turn = [{"role": "user", "content": f"{number} + 2?"}, {"role": "assistant", "content": f"It is {number + 2}."}]
        rows.append({"messages": turn * (60 if number % 5 == 4 else 1 + number % 5)})
    return [rows[0], LONG, *rows[1:]]


@pytest.fixture(scope="module")
def chat(service: Service) -> dict:
    """A model, and a file of rows to show in its tokens."""
    room = {"max_steps": 3, "max_length": 128, "per_device_train_batch_size": 2}
    wait_ended(service, make_job(service, "tokens", hyperparameters=room))
    lines = "".join(json.dumps(row) + "\n" for row in chat_rows())
    with service.http() as http:
        files = {"file": ("chat.jsonl", lines.encode())}
        return http.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()


FAULTS = (
    '{"prompt": "😀 and 🧵🧵" ¦"completion": "A comma is missing, behind what JavaScript counts twice."}',
    "{¦'prompt': 'Why?', 'completion': 'Single quotes.'}",
    '{"prompt": "Why?", "completion": "A comma too many."¦,}',
    '{"prompt": "Why?", "completion": ¦NaN}',
    '{"prompt": "Ünë", "completion": "It ends in the midd¦',
    '{"prompt": "Why?", "completion": "Two"}¦{"prompt": "rows", "completion": "on one line."}',
    '¦["Why?", "A list."]',
    '{"prompt": "Why?", "completion": ¦yes}',
    '{"prompt": "She said "¦so". Why?", "completion": "A quote that is not escaped."}',
    '{"prompt": "C:¦\\qemu", "completion": "No such escape."}',
)
"""Ten rows with different faults, each at its mark."""


def seeded() -> tuple[list[str], dict[int, int]]:
    """Return fifty rows, ten of them faulty, and the column of each fault by line."""
    dice = random.Random(7)
    rows = [
        f'{{"prompt": {json.dumps("Ünë " * dice.randrange(1, 60) + str(number))}, "completion": "Yes."}}'
        for number in range(50)
    ]
    faults = {}
    for index, faulty in zip(dice.sample(range(50), len(FAULTS)), FAULTS, strict=True):
        rows[index] = faulty.replace("¦", "")
        faults[index + 1] = faulty.index("¦") + 1
    return rows, faults


def test_ten_different_faults_are_located_by_line_and_column_and_show_their_rows(screen: Open, tmp_path: Path) -> None:
    rows, faults = seeded()
    (tmp_path / "seeded.jsonl").write_text("\n".join(rows) + "\n")
    page = screen("/datasets", allow="status of 4[02][02]").page
    page.locator("input[type=file]").set_input_files(tmp_path / "seeded.jsonl")
    expect(page.get_by_role("alert")).to_contain_text("10 faults")
    listed = page.get_by_role("region", name="Upload").locator("button[aria-expanded]")
    places = [place.split()[0] for place in listed.all_inner_texts()]
    assert places == [f"{line}:{column}" for line, column in sorted(faults.items())]
    for line, column in faults.items():
        listed.filter(has_text=re.compile(rf"^{line}:{column}\D")).click()
        excerpt = page.locator("pre").filter(has=page.locator("mark"))
        row = rows[line - 1]
        expect(excerpt.locator("mark")).to_have_text(row[column - 1 : column] or "end of the line")
        expect(excerpt).to_contain_text(row[column : column + 40])
        listed.filter(has_text=re.compile(rf"^{line}:{column}\D")).click()
        expect(excerpt).to_have_count(0)


def test_every_fault_is_located_by_line_and_column_and_shows_its_row(service: Service, screen: Open) -> None:
    with service.http() as http, BROKEN.open("rb") as content:
        faults = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": content}).json()["error"][
            "errors"
        ]
    page = screen("/datasets", allow="status of 4[02][02]").page
    page.locator("input[type=file]").set_input_files(BROKEN)
    expect(page.get_by_role("alert")).to_contain_text(f"{len(faults)} faults")
    for fault in faults:
        place = ":".join(str(fault[part]) for part in ("line", "column") if fault[part])
        expect(page.get_by_role("button", name=re.compile(f"^{place}\\b")).first).to_be_visible()
    page.get_by_role("button", name=re.compile("^3:54")).click()
    row = BROKEN.read_bytes().splitlines()[2].decode()
    expect(page.locator("pre").first).to_contain_text(row[60:80])


def test_faulty_lines_are_skipped_and_the_rest_is_uploaded(screen: Open) -> None:
    page = screen("/datasets", allow="status of 4[02][02]").page
    page.locator("input[type=file]").set_input_files(BROKEN)
    page.get_by_role("button", name=re.compile("^Skip .* lines")).click()
    expect(page.get_by_role("status")).to_contain_text("4 rows")
    expect(page.get_by_role("link", name="broken.jsonl").first).to_be_visible()


_DROPPED = """names => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File(['{"prompt": "Why?", "completion": "So."}'], name));
  return transfer;
}"""


def test_dropped_files_are_uploaded_one_at_a_time(past_screen: Open) -> None:
    page = past_screen("/datasets").page
    area = page.get_by_role("region", name="Upload")
    area.dispatch_event("drop", {"dataTransfer": page.evaluate_handle(_DROPPED, ["one.jsonl", "two.jsonl"])})
    expect(page.get_by_role("alert")).to_contain_text("drop one file at a time")
    area.dispatch_event("drop", {"dataTransfer": page.evaluate_handle(_DROPPED, ["one.jsonl"])})
    expect(page.get_by_role("status")).to_contain_text("Uploaded one.jsonl")
    expect(page.get_by_role("alert")).to_have_count(0)


def first_rows(page: Page) -> list[Locator]:
    """The articles of lines 1 to 3."""
    found = [page.get_by_role("article", name=f"Line {line}", exact=True) for line in (1, 2, 3)]
    expect(found[0]).to_be_visible(timeout=120_000)
    return found


def test_the_mask_has_the_labels_that_a_run_on_the_row_used(service: Service, screen: Open, chat: dict) -> None:
    """The tokens of the same row with a loss in an evaluation are its labels."""
    rows = "".join(json.dumps(row) + "\n" for row in chat_rows()[:3]).encode()
    with service.http() as http:
        held = http.post("/v1/files", data={"purpose": "evals"}, files={"file": ("rows.jsonl", rows)}).json()
        evaluation = {"task": "tokens", "rows": [1, 3], "max_length": 128}
        job = http.post(
            "/v1/jobs", json={"kind": "eval", "model": "tokens", "eval_file": held["id"], "evaluation": evaluation}
        ).json()
    assert wait_ended(service, job["id"])["status"] == "succeeded"
    with service.http() as http:
        items = {item["line"]: item["scores"] for item in http.get(f"/v1/jobs/{job['id']}/items").json()["data"]}
    articles = first_rows(screen(f"/datasets/{chat['id']}?model=tokens/1").page)
    for line in (1, 3):
        labels = [loss is not None for loss in items[line]["losses"]]
        assert labels == items[line]["trained"]
        learnt = "".join(piece for piece, label in zip(items[line]["pieces"], labels, strict=True) if label)
        assert "".join(articles[line - 1].locator("[data-trained=true]").all_inner_texts()) == learnt
        expect(articles[line - 1]).to_contain_text(f"{sum(labels)} of {len(labels)} tokens trained on")


def test_a_file_that_no_job_trains_on_is_not_offered_for_it(past: Past, past_screen: Open) -> None:
    with past.http() as http:
        left = http.get(f"/v1/jobs/{past.made['eval']}").json()["result_files"][0]
    page = past_screen(f"/datasets/{left}").page
    expect(page.get_by_text("rows of format items")).to_be_visible()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.get_by_role("link", name="Train on this")).to_have_count(0)
    expect(page.get_by_label("Tokenizer of")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_trained_tokens_are_distinguished_without_colour(screen: Open, chat: dict) -> None:
    line = first_rows(screen(f"/datasets/{chat['id']}?model=tokens/1").page)[0]
    for trained, decoration, weight in (("true", "underline", "600"), ("false", "none", "400")):
        tokens = line.locator(f"[data-trained={trained}]").first
        expect(tokens).to_have_css("text-decoration-line", decoration)
        expect(tokens).to_have_css("font-weight", weight)


def test_a_row_without_trained_tokens_is_flagged(screen: Open, chat: dict) -> None:
    articles = first_rows(screen(f"/datasets/{chat['id']}?model=tokens/1").page)
    expect(articles[1]).to_contain_text("no token to train on")
    for learnt in (articles[0], articles[2]):
        expect(learnt).not_to_contain_text("no token to train on")


def test_lengths_add_up_to_the_rows_and_truncation_equals_the_trainers(
    service: Service, screen: Open, chat: dict
) -> None:
    spec = {"kind": "sft", "model": "tokens", "training_file": chat["id"], "hyperparameters": {"max_steps": 1}}
    with service.http() as http:
        job = http.post("/v1/jobs", json=spec).json()["id"]
        assert wait_ended(service, job)["status"] == "succeeded"
        events = http.get(f"/v1/jobs/{job}/events").json()["data"]
    logged = {
        event["data"]["code"]: event["data"]["count"]
        for event in events
        if event["type"] == "log" and "training rows" in event["message"]
    }
    page = screen(f"/datasets/{chat['id']}?model=tokens/1").page
    lengths = page.get_by_role("region", name="Row lengths")
    expect(lengths).to_be_visible(timeout=120_000)
    summary = re.search(
        r"(\d+) rows to train on.* (\d+) are truncated \((.+?)%\).* (\d+) have no token", lengths.inner_text()
    )
    assert summary is not None
    rows, cut, share, untrained = summary.groups()
    assert (int(cut), int(untrained)) == (logged["rows_truncated"], logged["rows_without_labels"])
    assert float(share) == pytest.approx(100 * logged["rows_truncated"] / int(rows), abs=0.5)
    bars = [int(text) for text in lengths.locator("div > span:nth-child(3n)").all_inner_texts()]
    assert sum(bars) == int(rows)
    held_out = next(event["data"]["eval_rows"] for event in events if event["type"] == "started")
    assert held_out > 0
    assert int(rows) == chat["row_count"] - held_out


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_datasets_and_workers_pass_the_checks(screen: Open, shots: Path, chat: dict, theme: str) -> None:
    opened = screen("/datasets", theme)
    signs = {
        "/datasets": "chat.jsonl",
        f"/datasets/{chat['id']}?model=tokens/1": "tokens trained on",
        "/workers": "workers free",
    }
    for number, (path, sign) in enumerate(signs.items()):
        opened.open(path)
        expect(opened.page.get_by_role("main").get_by_text(sign).first).to_be_visible(timeout=60_000)
        opened.page.screenshot(path=shots / f"screen-{number}-{theme}.png", full_page=True)
        opened.check_both_widths()


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
