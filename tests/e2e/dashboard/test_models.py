"""Checkpoints, models and adapters: the best one, their facts, and their lineage."""

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from db.session import Database
from tests.e2e.dashboard.conftest import Open
from tests.e2e.dashboard.jobs import make_job, text_file, wait_ended
from tests.e2e.service import Service


@pytest.fixture(scope="module")
def family(service: Service) -> dict[str, Any]:
    """A model, an adapter on it, and an evaluation of that."""
    room = {"max_steps": 30, "max_length": 128, "per_device_train_batch_size": 2}
    wait_ended(service, make_job(service, "root", hyperparameters=room, checkpoints={"save_steps": 10}))
    rows = "".join(json.dumps({"prompt": f"{number}?", "completion": "Yes."}) + "\n" for number in range(20)).encode()
    with service.http() as http:
        ids = [
            http.post("/v1/files", data={"purpose": purpose}, files={"file": (name, rows)}).json()["id"]
            for purpose, name in (("fine-tune", "rows.jsonl"), ("evals", "held-out.jsonl"))
        ]
    of_rows = {"kind": "sft", "model": "root", "training_file": ids[0], "tokenizer": None}
    assert (
        wait_ended(service, make_job(service, "leaf", hyperparameters=room | {"max_steps": 4}, **of_rows))["status"]
        == "succeeded"
    )
    with service.http() as http:
        asked = {"kind": "eval", "model": "leaf", "eval_file": ids[1], "suffix": "leaf-eval"}
        scored = wait_ended(service, http.post("/v1/jobs", json=asked).json()["id"])
        return {
            "root": http.get("/v1/models/root").json(),
            "leaf": http.get("/v1/adapters/leaf").json(),
            "eval": scored,
        }


def page_of(artifact: dict[str, Any]) -> str:
    return f"/models/{artifact['kind']}/{artifact.get('artifact_id', artifact['id'])}"


def saved(service: Service, job_id: str) -> list[dict[str, Any]]:
    with service.http() as http:
        return http.get(f"/v1/jobs/{job_id}/checkpoints", params={"limit": 100}).json()["data"]


def links(within: Locator) -> set[str]:
    return {link.get_attribute("href") or "" for link in within.get_by_role("link").all()}


def test_best_and_last_are_marked_by_the_rule_that_is_stated(service: Service, screen: Open, family: dict) -> None:
    checkpoints = saved(service, family["root"]["job_id"])
    best = min(checkpoints, key=lambda one: one["metrics"]["eval_loss"])
    page = screen(f"/jobs/{family['root']['job_id']}/artifacts").page
    table = page.get_by_role("region", name="Checkpoints")
    expect(page.get_by_text("Best is the lowest eval_loss")).to_be_visible()
    expect(table.get_by_role("row").filter(has_text="best")).to_have_count(1)
    expect(table.get_by_role("row").filter(has_text="best")).to_contain_text(str(best["step"]))
    expect(table.get_by_role("row").filter(has=page.get_by_text("last", exact=True))).to_contain_text("30")


def test_a_downloaded_checkpoint_matches_its_checksums(service: Service, screen: Open, family: dict) -> None:
    last = saved(service, family["root"]["job_id"])[0]
    page = screen(f"/jobs/{last['job_id']}/artifacts").page
    with page.expect_download() as download:
        page.get_by_role("link", name=f"tar of {last['id']}").click()
    with tarfile.open(fileobj=io.BytesIO(download.value.path().read_bytes())) as archive:
        got = {name: archive.extractfile(name).read() for name in archive.getnames() if name != "SHA256SUMS"}  # type: ignore[union-attr]
    lines = sorted(f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in got.items())
    page.get_by_role("button", name=f"checksums of {last['id']}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("pre")).to_contain_text(lines[0])
    assert sorted(dialog.locator("pre").inner_text().splitlines()) == lines
    by_path = sorted(lines, key=lambda line: line.split("  ")[1])
    digest = hashlib.sha256("".join(f"{line}\n" for line in by_path).encode()).hexdigest()
    expect(dialog).to_contain_text(digest)
    assert digest == last["digest"]


def test_data_job_checkpoint_adapter_and_evaluation_are_all_links_drawn_and_listed(
    service: Service, screen: Open, family: dict
) -> None:
    leaf, root = family["leaf"], family["root"]
    opened = screen(page_of(leaf))
    drawn = opened.page.get_by_role("region", name="Lineage drawing")
    for name in (
        "rows.jsonl",
        "text.txt",
        "sft job leaf",
        "pretrain job root",
        "step 4",
        "root.1",
        "leaf.1",
        "leaf-eval",
    ):
        expect(drawn.get_by_role("link", name=re.compile(name)).first).to_be_visible()
    wanted = links(drawn)
    ids = [leaf["job_id"], root["job_id"], root["artifact_id"], family["eval"]["id"]]
    assert all(any(one in href for href in wanted) for one in [*ids, saved(service, leaf["job_id"])[0]["id"]])
    opened.page.get_by_role("button", name="List").click()
    expect(opened.page.get_by_role("list", name="Lineage list")).to_be_visible()
    assert links(opened.page.get_by_role("list", name="Lineage list")) == wanted
    for href in sorted(wanted):
        opened.open(href)
        expect(opened.page.get_by_role("main").get_by_role("heading").first).to_be_visible()
        expect(opened.page.get_by_role("alert")).to_have_count(0)


def test_the_list_stays_after_a_reload(screen: Open, family: dict) -> None:
    page = screen(page_of(family["leaf"])).page
    page.get_by_role("button", name="List").click()
    page.reload()
    expect(page.get_by_role("list", name="Lineage list")).to_be_visible()


def test_lineage_is_kept_after_the_model_and_its_data_are_deleted(service: Service, screen: Open) -> None:
    file_id = text_file(service)
    job = wait_ended(service, make_job(service, "goner", steps=3, training_file=file_id))
    made = job["artifacts"][0]
    with service.http() as http:
        for path in (f"/v1/models/{made['id']}", f"/v1/files/{file_id}"):
            assert http.delete(path).status_code == 200
    page = screen(page_of(made)).page
    expect(page.get_by_text("Deleted: its files are gone")).to_be_visible()
    drawn = page.get_by_role("region", name="Lineage drawing")
    expect(drawn.get_by_role("link", name=re.compile("model · deleted.*goner.1"))).to_be_visible()
    expect(drawn.get_by_role("link", name=re.compile("dataset · deleted.*text.txt"))).to_be_visible()
    drawn.get_by_role("link", name=re.compile("pretrain job")).click()
    expect(page.get_by_role("heading", name="goner")).to_be_visible()


def test_a_model_shows_its_licence_and_its_limits(service: Service, screen: Open, family: dict) -> None:
    with service.http() as http:
        config = http.get("/v1/models/root/files/config.json").json()
    page = screen("/models").page
    page.get_by_role("link", name="root/1", exact=True).click()
    expect(page.get_by_text("unknown: see the model that it was made from")).to_be_visible()
    license_as(service, family["root"]["artifact_id"], "Apache-2.0")
    page.reload()
    expect(fact(page, "Licence")).to_have_text("Apache-2.0")
    expect(fact(page, "Limits")).to_contain_text(f"{config['max_position_embeddings']} tokens of prompt")
    expect(fact(page, "Limits")).to_contain_text(f"a vocabulary of {config['vocab_size']} tokens")


def license_as(service: Service, artifact_id: str, licence: str) -> None:
    """Set the licence, as an import of the model would have."""
    database = Database(f"sqlite:///{service.home}/trainyard.db")
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE artifacts SET licence = ? WHERE id = ?", (licence, artifact_id))
    database.close()


def fact(page: Page, name: str) -> Locator:
    """The value of one of the facts of a model."""
    return page.locator("dt", has_text=re.compile(f"^{name}$")).locator("xpath=following-sibling::dd[1]")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_models_and_their_lineage_pass_the_checks(screen: Open, shots: Path, family: dict, theme: str) -> None:
    leaf = family["leaf"]
    signs = {
        "/models": "leaf/1",
        page_of(leaf): "leaf-eval",
        f"{page_of(leaf)}?view=list": "leaf-eval",
        f"/jobs/{leaf['job_id']}/artifacts": "Created by this job",
    }
    opened = screen("/models", theme)
    for number, (path, sign) in enumerate(signs.items()):
        opened.open(path)
        expect(opened.page.get_by_role("main").get_by_text(sign).first).to_be_visible()
        opened.page.screenshot(path=shots / f"models-{number}-{theme}.png", full_page=True)
        opened.check_both_widths()
