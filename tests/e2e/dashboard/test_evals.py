"""Evaluations: scores with their intervals, differences to the base, and the outcome of each row."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import Served, make_job, wait_ended
from tests.e2e.dashboard.past import Past
from tests.e2e.service import Service

ROWS = 45


def evaluate(service: Service, suffix: str, model: str, file_id: str, **more: Any) -> dict[str, Any]:
    spec = {"kind": "eval", "model": model, "eval_file": file_id, "suffix": suffix, **more}
    with service.http() as http:
        made = http.post("/v1/jobs", json=spec)
        assert made.status_code == 201, made.text
    return wait_ended(service, made.json()["id"])


@pytest.fixture(scope="module")
def evaluations(service: Service) -> dict[str, dict[str, Any]]:
    """A model trained on from its base, compared with it, and the other way round: the first is better, the second worse."""
    wait_ended(service, make_job(service, "weak", steps=3))
    wait_ended(service, make_job(service, "strong", steps=60, model="weak", tokenizer=None))
    rows = "".join(
        json.dumps({"text": f"To be, or not to be: that is question {number}."}) + "\n" for number in range(ROWS)
    )
    choices = "".join(
        json.dumps({"question": f"Which is {number}?", "choices": ["that is", "be not"], "answer": number % 2}) + "\n"
        for number in range(6)
    )
    with service.http() as http:
        files = [
            http.post("/v1/files", data={"purpose": "evals"}, files={"file": (name, text.encode())}).json()["id"]
            for name, text in (("texts.jsonl", rows), ("choices.jsonl", choices))
        ]
    return {
        "gain": evaluate(service, "gain", "strong", files[0], compare_to="weak"),
        "fall": evaluate(service, "fall", "weak", files[0], compare_to="strong"),
        "chosen": evaluate(service, "chosen", "strong", files[1]),
    }


def scored(service: Served, job_id: str, **query: Any) -> list[dict[str, Any]]:
    with service.http() as http:
        return http.get(f"/v1/jobs/{job_id}/items", params=query).json()["data"]


def test_a_score_has_its_interval_its_rows_and_its_change(screen: Open, evaluations: dict) -> None:
    page = screen("/evals").page
    metrics = evaluations["gain"]["result"]["metrics"]
    row = page.get_by_role("row", name=re.compile("^gain"))
    for figure in ("eval_loss", "eval_loss_low", "eval_loss_high"):
        expect(row).to_contain_text(f"{metrics[figure]:.4g}".rstrip("0"))
    difference = [metrics[f"difference/eval_loss{end}"] for end in ("", "_low", "_high")]
    assert difference[2] < 0, "training helped"
    for figure in difference:
        expect(row).to_contain_text(f"{figure:.4g}".rstrip("0"))
    expect(row).to_contain_text(str(ROWS))
    expect(row).to_contain_text("better")
    expect(page.get_by_role("row", name=re.compile("^fall"))).to_contain_text("worse")


def test_sorting_by_regression_survives_a_reload(screen: Open, evaluations: dict) -> None:
    page = screen("/evals").page
    names = page.get_by_role("region", name="Evaluations").locator("tbody td:first-child")
    expect(names.first).to_have_text("chosen")
    page.get_by_label("Sort by").select_option(label="largest regression")
    expect(names.first).to_have_text("fall")
    page.reload()
    expect(names.first).to_have_text("fall")
    page.get_by_label(re.compile("^Dataset ")).select_option(label="choices.jsonl")
    expect(names).to_have_text(["chosen"])


def test_every_row_is_shown_with_the_answers_of_each_model_page_by_page(
    service: Service, screen: Open, evaluations: dict
) -> None:
    job = evaluations["gain"]
    asked: list[str] = []
    opened = screen(f"/evals/{job['id']}")
    opened.page.on("request", lambda request: asked.append(request.url))
    articles = opened.page.get_by_role("article")
    expect(articles).to_have_count(20)
    first = scored(service, job["id"], limit=1)[0]
    expect(articles.first).to_contain_text(first["row"]["text"])
    for side in (first["scores"], first["compare_to"]):
        expect(articles.first).to_contain_text(f"{side['loss']:.4g}".rstrip("0"))
    for line, count in ((21, 20), (41, ROWS - 40)):
        opened.page.get_by_role("link", name="Next rows").click()
        expect(articles.first).to_have_accessible_name(f"Line {line}")
        expect(articles).to_have_count(count)
    opened.page.reload()
    expect(articles.last).to_have_accessible_name(f"Line {ROWS}")
    assert not [url for url in asked if "/content" in url]


def test_regressions_can_be_shown_alone(past: Past, past_screen: Open) -> None:
    job_id = past.made["eval"]
    first, worse = ([row["line"] for row in scored(past, job_id, limit=20, **only)] for only in ({}, {"only": "worse"}))
    assert worse
    assert set(first) - set(worse), "some of the first rows are no regressions"
    page = past_screen(f"/evals/{job_id}").page
    page.get_by_role("link", name="Regressions").click()
    expect(page).to_have_url(re.compile("only=worse"))
    articles = page.get_by_role("article")
    expect(articles).to_have_count(len(worse))
    for index, line in enumerate(worse):
        expect(articles.nth(index)).to_have_accessible_name(f"Line {line}")


def test_a_multiple_choice_row_shows_the_chosen_and_the_correct_answer(
    service: Service, screen: Open, evaluations: dict
) -> None:
    job = evaluations["chosen"]
    row = scored(service, job["id"], limit=1)[0]
    page = screen(f"/evals/{job['id']}").page
    article = page.get_by_role("article").first
    expect(article).to_contain_text("expected A. that is")
    for way, right in row["scores"]["correct"].items():
        mark = "correct" if right else "wrong"
        expect(article).to_contain_text(re.compile(f"{mark} {way}: {row['scores']['chosen'][way] or 'none'}"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_evaluations_pass_the_checks(screen: Open, shots: Path, evaluations: dict, theme: str) -> None:
    opened = screen("/evals", theme)
    expect(opened.page.get_by_role("link", name="gain")).to_be_visible()
    opened.page.screenshot(path=shots / f"evals-{theme}.png", full_page=True)
    opened.check_both_widths()
    opened.open(f"/evals/{evaluations['gain']['id']}")
    expect(opened.page.get_by_role("article").first).to_be_visible()
    opened.page.screenshot(path=shots / f"eval-{theme}.png", full_page=True)
    opened.check_both_widths()
