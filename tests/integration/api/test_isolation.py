"""One project never sees, changes or names what is another's: every route that takes an id is tried."""

import re
from typing import Any

import pytest

from db import artifacts, registry
from tests.integration.api.live import CHAT, Live, a_plan, pretrain_spec, published, started, stored, text_file, upload

EVAL = {
    "data_source_config": {"type": "custom", "item_schema": {}},
    "testing_criteria": [{"type": "string_check", "name": "a", "input": "x", "reference": "x", "operation": "eq"}],
}
RUN = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}}
WEBHOOK = {"name": "a", "url": "https://example.com/", "event_types": ["eval.run.failed"]}
UPLOAD = {"bytes": 9, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}


@pytest.fixture(scope="module")
def objects(live: Live) -> dict[str, str]:
    """One object of each kind that belongs to `mine`."""
    job_id, fence = started(live)
    with live.database.write() as session:
        checkpoint = artifacts.publish_checkpoint(
            session,
            job_id,
            fence,
            step=1,
            layout="model",
            files=[artifacts.FileEntry("a", *stored(live, b"x"))],
            metrics={},
            lineage={},
            keep=3,
        )
    assert checkpoint is not None
    model = published(live, "secret-model", {"a": b"1"})
    with live.database.write() as session:
        registry.turn(session, model, "production", key_id="key-1", figures={})
    return {
        "alias": "secret-model@production",
        "file_id": upload(live.mine).json()["id"],
        "upload_id": live.mine.post("/v1/uploads", json=UPLOAD).json()["id"],
        "job_id": job_id,
        "eval_id": (eval_id := live.mine.post("/v1/evals", json=EVAL).json()["id"]),
        "run_id": live.mine.post(f"/v1/evals/{eval_id}/runs", json=RUN).json()["id"],
        "item_id": "outputitem-0",
        "webhook_id": live.mine.post("/v1/webhook_endpoints", json=WEBHOOK).json()["id"],
        "plan_id": a_plan(live),
        "models": model.id,
        "adapters": published(live, "secret-adapter", {"a": b"1"}, kind="adapter").id,
        "checkpoints": checkpoint.id,
    }


def routes(live: Live) -> list[tuple[str, str]]:
    """(method, path) of every route that names an object."""
    paths: dict[str, Any] = live.mine.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations if "{" in path]


def filled(path: str, objects: dict[str, str]) -> str:
    noun = path.split("/")[2]
    values = objects | {"path": "a", "step": "1", "metric": "loss", "reference": objects.get(noun, "")}
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


def test_every_route_answers_404_for_what_is_another_projects(live: Live, objects):
    tried = routes(live)
    assert len(tried) > 25
    leaks = [
        (method, path, answer.status_code)
        for method, path in tried
        if (answer := live.theirs.request(method, filled(path, objects))).status_code != 404
    ]
    assert leaks == []
    # And the objects are there, untouched.
    for path in ("/v1/files/{file_id}", "/v1/jobs/{job_id}", "/v1/models/{reference}", "/v1/checkpoints/{reference}"):
        assert live.mine.get(filled(path, objects)).status_code == 200
    assert live.mine.get(f"/v1/jobs/{objects['job_id']}").json()["cancel_requested"] is False


def test_no_listing_shows_what_is_another_projects(live: Live, objects):
    for noun in ("files", "jobs", "plans", "models", "adapters", "checkpoints", "webhook_endpoints"):
        assert live.mine.get(f"/v1/{noun}").json()["data"]
        assert live.theirs.get(f"/v1/{noun}").json()["data"] == []


def test_a_job_cannot_use_the_file_of_another_project(live: Live, objects):
    answer = live.theirs.post("/v1/jobs", json=pretrain_spec(text_file(live.mine)))
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "training_file")


@pytest.mark.parametrize("by", ["models", "name"])
def test_a_job_cannot_use_the_model_of_another_project(live: Live, objects, by):
    file_id = upload(live.theirs, CHAT).json()["id"]
    reference = objects.get(by, "secret-model/1")
    answer = live.theirs.post("/v1/jobs", json={"kind": "sft", "model": reference, "training_file": file_id})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "model_not_found")
    assert "secret-adapter" not in answer.text
