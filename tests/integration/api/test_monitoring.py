"""What who runs the service sees of it: figures for Prometheus, and the audit log."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from db import audit, keys, leases, records
from db.log_context import work
from db.scopes import Scope
from db.session import Database
from db.state import JobState
from tests.integration.api.live import SECRET, Live, client, error, published, settled, started, submitted, upload


@pytest.fixture
def admin(live: Live) -> Iterator[httpx.Client]:
    with live.database.write() as session:
        _, token = keys.create(session, live.project_id, "operator", SECRET, scope=Scope.OPERATOR)
    with client(live.url, token) as asking:
        yield asking


def figures(admin: httpx.Client) -> dict[str, float]:
    """By name and labels, as Prometheus reads them."""
    answer = admin.get("/metrics")
    assert answer.status_code == 200
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value for sample in samples}


def test_the_figures_of_all_projects_take_an_operators_key(live: Live):
    assert error(live.mine.get("/metrics"), 403)["param"] == "operator"
    with httpx.Client(base_url=live.url, trust_env=False) as nobody:
        assert error(nobody.get("/metrics"), 401)["code"] == "missing_key"


def test_the_queue_and_the_waits_are_told(live: Live, admin: httpx.Client):
    before = figures(admin)
    submitted(live)
    started(live)
    after = figures(admin)
    grown = {name: after[name] - before.get(name, 0.0) for name in after}
    assert grown["trainyard_queue_depth"] == grown["trainyard_jobs queued"] == grown["trainyard_jobs running"] == 1
    assert grown["trainyard_queue_wait_seconds_count"] == 1
    assert 0 <= grown["trainyard_queue_wait_seconds_sum"] < 60
    assert after["trainyard_queue_oldest_seconds"] > 0


def test_failures_are_told_by_class_and_lost_leases_apart(live: Live, admin: httpx.Client):
    before = figures(admin)
    told = {"code": "x", "message": "x", "mend": "x"}
    (first, fence), (second, _) = started(live), started(live)
    with live.database.write() as session:
        assert leases.settle(
            session, first, fence, state=JobState.FAILED, failure="out_of_memory", exit_code=71, **told
        )
        assert leases.retry_or_fail(
            session, second, 1, failure="worker_lost", exit_code=None, max_attempts=9, backoff_s=0.0, **told
        )
    after = figures(admin)
    names = ("trainyard_attempt_failures_total out_of_memory", "trainyard_attempt_failures_total worker_lost")
    assert [after[name] - before.get(name, 0.0) for name in (*names, "trainyard_lease_expiries_total")] == [1, 1, 1]


def test_the_speed_of_each_running_job_is_told_until_its_end(live: Live, admin: httpx.Client):
    job_id, fence = started(live)
    values = {"loss": 1.0, "tokens_per_s": 512.0, "mfu": 0.25}
    with live.database.write() as session:
        metric = {"split": "train", "step": 1, "values": values, "created_at": 1.0}
        assert records.append(session, job_id, fence, events=[], metrics=[metric], lease_s=60)
    told = figures(admin)
    assert told[f"trainyard_job_tokens_per_second {job_id} pretrain"] == 512
    assert told[f"trainyard_job_mfu_ratio {job_id} pretrain"] == 0.25
    settled(live, job_id, fence)
    assert not [name for name in figures(admin) if job_id in name]


def acts(admin: httpx.Client, object_id: str) -> list[dict[str, Any]]:
    return admin.get("/v1/audit", params={"object_id": object_id}).json()["data"]


def test_every_act_on_a_job_is_in_the_audit_log_with_its_key_and_request(live: Live, admin: httpx.Client):
    job_id = submitted(live)
    answers = [live.mine.post(f"/v1/jobs/{job_id}/{verb}") for verb in ("pause", "resume", "cancel")]
    told = acts(admin, job_id)
    assert [act["action"] for act in told] == ["job.cancel", "job.resume", "job.pause", "job.create"]
    assert [act["request_id"] for act in told[:3]] == [answer.headers["x-request-id"] for answer in answers][::-1]
    me = live.mine.get("/v1/me").json()
    assert {(act["key_id"], act["project_id"]) for act in told} == {(me["key"]["id"], live.project_id)}


def test_files_and_models_that_come_and_go_are_in_the_audit_log(live: Live, admin: httpx.Client):
    file_id = upload(live.mine).json()["id"]
    live.mine.delete(f"/v1/files/{file_id}")
    assert [act["action"] for act in acts(admin, file_id)] == ["file.delete", "file.create"]
    made = published(live, "audited", {"a": b"1"})
    live.mine.delete("/v1/models/audited")
    assert [act["action"] for act in acts(admin, made.id)] == ["model.delete"]


def test_what_was_refused_is_no_act(live: Live, admin: httpx.Client):
    job_id, fence = started(live)
    settled(live, job_id, fence)
    assert live.mine.post(f"/v1/jobs/{job_id}/pause").status_code == 409
    assert [act["action"] for act in acts(admin, job_id)] == ["job.create"]


def test_jobs_that_are_committed_together_are_each_told_with_their_own_request(live: Live, admin: httpx.Client):
    job_id, other = submitted(live), live.theirs.get("/v1/me").json()["key"]["id"]
    assert acts(admin, job_id)[0]["key_id"] != other


def test_the_audit_log_is_paged_and_narrowed_to_a_project(live: Live, admin: httpx.Client):
    upload(live.theirs)
    for _ in range(3):
        submitted(live)
    mine = {"project_id": live.project_id}
    first = admin.get("/v1/audit", params={**mine, "limit": 2}).json()
    second = admin.get("/v1/audit", params={**mine, "limit": 2, "after": first["last_id"]}).json()
    ids = [act["id"] for act in first["data"] + second["data"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4
    assert {act["project_id"] for act in first["data"] + second["data"]} == {live.project_id}


def test_an_act_that_is_rolled_back_is_not_told(live: Live, admin: httpx.Client):
    me = live.mine.get("/v1/me").json()
    who = {"request_id": "req-1", "project_id": live.project_id, "key_id": me["key"]["id"]}

    def fail(database: Database) -> None:
        with work(**who), database.write() as session:
            audit.note(session, "job.cancel", "job-never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(live.database)
    assert acts(admin, "job-never") == []


def test_what_changes_something_is_logged_by_its_answer(live: Live, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "trainyard.api"):
        job_id = submitted(live)
        live.mine.get(f"/v1/jobs/{job_id}")
    told = [record.getMessage() for record in caplog.records if record.name == "trainyard.api"]
    assert [message.rpartition(" after ")[0] for message in told] == [
        "POST /v1/files was answered 201",
        "POST /v1/jobs was answered 201",
    ]
