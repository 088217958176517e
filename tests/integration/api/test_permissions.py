"""Checkpoint permissions: what an owner's admin lets another project use, by its fine-tuned name and in no other way."""

from typing import Any

import httpx
import pytest

from api.models.schemas import reference
from db import artifacts, fine_tuned_names, jobs, keys, permissions, projects
from db.artifacts import FileEntry
from db.models import Artifact
from db.scopes import Scope
from tests.integration.api.live import (
    CHAT,
    SECRET,
    Live,
    client,
    error,
    published,
    started,
    stored,
    upload,
)
from tests.integration.api.tenant import as_theirs
from workers import stage


@pytest.fixture(scope="module")
def their_id(live: Live) -> str:
    with live.database.read() as session:
        return next(one.id for one in projects.list_all(session) if one.id != live.project_id)


@pytest.fixture
def adapter(live: Live, request: pytest.FixtureRequest) -> Artifact:
    """An adapter of `mine` that a tuning job made, over a model of `mine`."""
    name = f"shared-{abs(hash(request.node.name)) % 10**6}"
    base = published(live, f"{name}-base", {"config.json": b"{}"})
    told = {"kind": "sft", "base": {"id": base.id, "name": base.name, "version": base.version}}
    files = {"adapter_config.json": b"{}"}
    return published(live, name, files, kind="adapter", lineage=told, base_id=base.id)


def tuned_name(live: Live, artifact: Artifact) -> str:
    with live.database.read() as session:
        project = projects.get(session, live.project_id)
        assert project is not None
        name = fine_tuned_names.name(artifact, project.name)
    assert name is not None
    return name


def url(name: str) -> str:
    return f"/v1/fine_tuning/checkpoints/{name.replace('/', '%2F')}/permissions"


def used_by_them(live: Live, name: str) -> bool:
    """Whether the other project may evaluate it."""
    body = {"kind": "eval", "model": name, "eval_file": upload(live.theirs, CHAT, "evals").json()["id"]}
    answer = live.theirs.post("/v1/jobs", json=body)
    assert answer.status_code in {201, 422}, answer.text
    return answer.status_code == 201


def trained_by_them(live: Live, name: str, state: str = "fresh", **tuning: Any) -> httpx.Response:
    """The answer to the other project that trains on it; the job is not to change anything: it is made for a copy."""
    body = {"kind": "sft", "model": name, "training_file": upload(live.theirs, CHAT).json()["id"]}
    body |= {"tuning": {"method": "lora"} | tuning, "hyperparameters": {"learning_rate": 0}, "optimizer_state": state}
    return live.theirs.post("/v1/jobs", json=body)


def lent(live: Live, artifact: Artifact, their_id: str) -> str:
    """The name by which the other project may use it."""
    name = tuned_name(live, artifact)
    assert live.mine.post(url(name), json={"project_ids": [their_id]}).status_code == 200
    return name


def test_a_granted_project_uses_the_model_and_sees_none_of_it(live: Live, adapter, their_id):
    name = tuned_name(live, adapter)
    assert not used_by_them(live, name)
    (given,) = live.mine.post(url(name), json={"project_ids": [their_id]}).json()["data"]
    assert (given["object"], given["project_id"]) == ("checkpoint.permission", their_id)
    assert used_by_them(live, name)
    with live.database.read() as session:
        found = permissions.usable(session, their_id, name)
        assert found is not None
        assert found.id == adapter.id
    for way in (reference(adapter), adapter.id):
        assert not used_by_them(live, way)
    (job_id, *_) = [job["id"] for job in live.theirs.get("/v1/jobs").json()["data"]]
    with live.database.read() as session:
        job = jobs.find(session, job_id)
        assert job is not None
        laid = {link.path for link in stage.plan(session, job, 1).links}
    assert {"adapter/adapter_config.json", "model/config.json"} <= laid
    assert job.spec["model"] == name
    error(live.theirs.get(f"/v1/models/{name}"), 404)
    error(live.theirs.get(f"/v1/adapters/{adapter.id}"), 404)
    error(live.theirs.delete(f"/v1/models/{name}"), 404)
    error(live.theirs.get(url(name)), 404)


def test_an_adapter_that_is_lent_is_not_trained_further_for_that_is_a_copy(live: Live, adapter, their_id):
    name = lent(live, adapter, their_id)
    told = error(trained_by_them(live, name), 422)
    assert (told["code"], told["param"]) == ("not_permitted", "model")
    assert "the adapter is another project's, and the result would hold its weights" in told["message"]
    assert "ask that project to train it further, or to share a model" in told["errors"][0]["hint"]
    assert used_by_them(live, name)


@pytest.mark.parametrize(
    ("tuning", "param"),
    [
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, "tuning.modules_to_save"),
        ({"merge": "original"}, "tuning"),
        ({"method": "full"}, "tuning"),
    ],
)
def test_of_a_model_that_is_lent_no_weights_are_saved_with_what_is_trained_on_it(
    live: Live, their_id, tuning: dict[str, Any], param: str
):
    told = {"kind": "sft", "base": {"id": "model-1", "name": "base", "version": 1}}
    name = lent(live, published(live, "lent-whole", {"config.json": b"{}"}, lineage=told), their_id)
    refusal = error(trained_by_them(live, name, **tuning), 422)
    assert (refusal["code"], refusal["param"]) == ("not_permitted", param)
    assert trained_by_them(live, name).status_code == 201


def test_a_refusal_does_not_name_the_checkpoints_beside_a_model_that_is_lent(live: Live, their_id):
    job_id, fence = started(live)
    entries = [FileEntry("config.json", *stored(live, b"{}"))]
    told = {"kind": "sft", "base": {"id": "model-1", "name": "base", "version": 1}}
    with live.database.write() as session:
        common: dict[str, Any] = {"layout": "model", "step": 1, "files": entries, "metrics": {}, "lineage": told}
        saved = artifacts.publish_checkpoint(session, job_id, fence, keep=1, **common)
        made = artifacts.publish_result(session, job_id, fence, kind="model", name="lent-beside", **common)
    assert saved is not None
    assert made is not None
    refusal = error(trained_by_them(live, lent(live, made, their_id), state="kept"), 422)
    assert refusal["code"] == "no_optimizer_state"
    assert saved.id not in refusal["message"]


def test_an_adapter_of_theirs_on_a_model_that_is_lent_goes_on_without_weights_of_it(live: Live, their_id):
    told = {"kind": "sft", "base": {"id": "model-1", "name": "base", "version": 1}}
    base = published(live, "lent-below", {"config.json": b"{}"}, lineage=told)
    files = {"adapter_config.json": b"{}"}
    theirs = published(as_theirs(live), "on-lent", files, kind="adapter", base_id=base.id)
    assert trained_by_them(live, theirs.id).status_code == 201
    tunings: list[dict[str, Any]] = [{"modules_to_save": ["lm_head"]}, {"merge": "auto"}]
    for tuning in tunings:
        assert error(trained_by_them(live, theirs.id, **tuning), 422)["code"] == "not_permitted"


def test_a_permission_that_is_taken_back_permits_nothing(live: Live, adapter, their_id):
    name = tuned_name(live, adapter)
    (given,) = live.mine.post(url(name), json={"project_ids": [their_id]}).json()["data"]
    gone = live.mine.delete(f"{url(name)}/{given['id']}").json()
    assert gone == {"id": given["id"], "object": "checkpoint.permission", "deleted": True}
    assert not used_by_them(live, name)
    error(live.mine.delete(f"{url(name)}/{given['id']}"), 404)


def test_the_refusal_to_delete_what_another_project_uses_does_not_name_its_jobs(live: Live, adapter, their_id):
    name = lent(live, adapter, their_id)
    assert used_by_them(live, name)
    job_id = live.theirs.get("/v1/jobs").json()["data"][0]["id"]
    answer = live.mine.delete(f"/v1/adapters/{adapter.id}")
    assert error(answer, 409)["code"] == "in_use"
    assert "a job of another project that has permission to use it" in answer.text
    assert job_id not in answer.text


def test_a_permission_given_twice_is_one(live: Live, adapter, their_id):
    first, second = (live.mine.post(url(adapter.id), json={"project_ids": [their_id]}).json()["data"] for _ in "ab")
    assert first == second
    assert live.mine.get(url(adapter.id)).json()["data"] == first


def test_pages_go_by_the_last_id(live: Live, adapter, their_id):
    made = live.mine.post(url(adapter.id), json={"project_ids": [live.project_id, their_id]}).json()["data"]
    page = live.mine.get(url(adapter.id), params={"limit": 1, "order": "ascending"}).json()
    assert (page["data"], page["has_more"], page["last_id"]) == (made[:1], True, made[0]["id"])
    rest = live.mine.get(url(adapter.id), params={"limit": 1, "order": "ascending", "after": page["last_id"]}).json()
    assert (rest["data"], rest["has_more"]) == (made[1:], False)
    of_one = live.mine.get(url(adapter.id), params={"project_id": their_id}).json()["data"]
    assert of_one == made[1:]


def test_it_takes_an_admins_key(live: Live, adapter, their_id):
    with live.database.write() as session:
        token = keys.create(session, live.project_id, "writer", SECRET, scope=Scope.WRITE)[1]
    with client(live.url, token) as writer:
        told = error(writer.post(url(adapter.id), json={"project_ids": [their_id]}), 403)
        assert writer.get(url(adapter.id)).status_code == 200
    assert (told["code"], told["param"]) == ("missing_scope", "admin")


def test_a_project_that_there_is_not_is_named(live: Live, adapter):
    told = error(live.mine.post(url(adapter.id), json={"project_ids": ["proj-none"]}), 404)
    assert (told["code"], told["param"]) == ("project_not_found", "project_ids")
    assert live.mine.get(url(adapter.id)).json()["data"] == []
