"""The audit log: whatever changes something is in it, or is named here with the reason why not."""

from typing import Any

import pytest

from db import artifacts
from tests import hostile
from tests.integration.api.live import CHAT, Live, published, settled, started, stored, upload
from tests.integration.api.tenant import EVAL, RUN, UPLOAD, WEBHOOK, filled, operations, seed, send

EXEMPT = {
    "preview_rows": "it changes nothing",
    "create_chat_completion": "it changes nothing",
    "create_completion": "it changes nothing",
    "run_grader": "it changes nothing",
    "validate_grader": "it changes nothing",
    "sign_in": "it stores nothing: a session is a sealed cookie",
    "sign_out": "it stores nothing: a session is a sealed cookie",
    "create_upload_part": "the upload and the file that it becomes are logged",
    "test_webhook_endpoint": "the endpoint's deliveries list it",
}


def saved(live: Live) -> str:
    """A checkpoint of a job that has ended."""
    job_id, fence = started(live)
    files = [artifacts.FileEntry("a", *stored(live, b"4"))]
    with live.database.write() as session:
        checkpoint = artifacts.publish_checkpoint(
            session, job_id, fence, step=1, layout="model", files=files, metrics={}, lineage={}, keep=3
        )
    assert checkpoint is not None
    settled(live, job_id, fence)
    return checkpoint.id


JOB_ORDERS = (
    "cancel_job", "pause_job", "resume_job", "retry_job",
    "cancel_fine_tuning_job", "pause_fine_tuning_job", "resume_fine_tuning_job",
)  # fmt: skip


def acts(live: Live, objects: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What each operation is sent: a body, and under `objects` those that it is about where the seed's do not do."""

    def made(path: str, body: dict[str, Any]) -> str:
        answer = live.mine.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()["id"]

    job = {"kind": "pretrain", "training_file": upload(live.mine, b"to be\n", "pretrain", "a.txt").json()["id"]}
    runs = f"/v1/evals/{objects['eval_id']}/runs"
    tar = upload(live.mine, hostile.tar(), "model", "m.tar").json()["id"]
    for version in ("audited-model/1", published(live, "audited-model", {"a": b"2"}).id):
        live.mine.post("/v1/aliases", json={"model": version, "alias": "rolled", "force": True}).raise_for_status()
    bodies: dict[str, dict[str, Any]] = {
        "create_job": job,
        "create_fine_tuning_job": {"model": objects["models"], "training_file": upload(live.mine).json()["id"]},
        "import_model": {"name": "audited", "licence": "mit", "files": [tar]},
        "promote": {"model": objects["models"], "alias": "staging", "force": True},
        "create_key": {"name": "a", "scope": "read"},
        "set_key_budget": {},
        "create_eval": EVAL,
        "update_eval": {"name": "b"},
        "create_eval_run": RUN,
        "create_upload": UPLOAD,
        "complete_upload": {"part_ids": [objects["part_id"]]},
        "create_webhook_endpoint": WEBHOOK | {"name": "a"},
        "update_webhook_endpoint": {"name": "b"},
        "rotate_webhook_secret": {},
        "create_checkpoint_permissions": {"project_ids": [live.project_id]},
    }
    return (
        {name: {"json": body} for name, body in bodies.items()}
        | {"upload_file": {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", CHAT)}}}
        | {name: {"objects": {"job_id": made("/v1/jobs", job)}} for name in JOB_ORDERS}
        | {name: {"objects": {"run_id": made(runs, RUN)}} for name in ("cancel_eval_run", "cancel_eval_run_itself")}
        | {"cancel_upload": {"objects": {"upload_id": made("/v1/uploads", UPLOAD)}}}
        | {"roll_back_alias": {"objects": {"alias": "audited-model@rolled"}}}
        | {"delete_checkpoint": {"objects": {"checkpoints": saved(live)}}}
        | {"delete_model": {"objects": {"models": published(live, "audited-gone", {"a": b"3"}).id}}}
    )


@pytest.fixture
def objects(live: Live) -> dict[str, str]:
    return seed(live, "audited")


def entries(live: Live) -> int:
    counted, after, has_more = 0, {}, True
    while has_more:
        page = live.mine.get("/v1/audit", params={"limit": 100} | after).json()
        counted, has_more, after = counted + len(page["data"]), page["has_more"], {"after": page["last_id"]}
    return counted


def test_every_change_is_in_the_log_or_exempt(live: Live, objects: dict[str, str]):
    document = live.mine.get("/openapi.json", timeout=120).json()
    sent = acts(live, objects)
    changing = [each for each in operations(document) if each.method != "GET" and each.name not in EXEMPT]
    # What deletes comes last: an eval after its run.
    changing.sort(key=lambda each: (each.method == "DELETE", each.name == "delete_eval"))
    assert len(changing) > 35
    silent = []
    for operation in changing:
        given = dict(sent.get(operation.name, {}))
        own = given.pop("objects", {})
        before = entries(live)
        answer = send(live.mine, operation.method, filled(operation, objects | own), **given)
        if answer.status_code >= 400 or entries(live) != before + 1:
            silent.append((operation.name, answer.status_code, answer.text[:200]))
    assert silent == []
