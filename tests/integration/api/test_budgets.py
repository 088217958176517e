"""Budgets over HTTP: what is over is refused with the amount named; what was used is told."""

import hashlib
import time
from datetime import UTC, datetime

import httpx
import pytest

from api import projects as console
from db import audit, budgets, keys
from db.models import Attempt
from db.scopes import Scope
from db.state import JobState
from tests import hostile
from tests.integration.api.live import (
    CHAT,
    SECRET,
    Live,
    claimed,
    client,
    error,
    pretrain_spec,
    settled,
    text_file,
    upload,
)  # fmt: skip


@pytest.fixture
def limited(live: Live, request: pytest.FixtureRequest):
    """A key of `mine` that may write, with a budget, and its client."""
    with live.database.write() as session:
        key, token = keys.create(session, live.project_id, request.node.name, SECRET, scope=Scope.WRITE)
    with client(live.url, token) as asking:
        yield key.id, asking


def grant(live: Live, key_id: str, **amounts) -> None:
    answer = live.mine.put(f"/v1/keys/{key_id}/budget", json=amounts)
    assert answer.status_code == 200, answer.text


def submit(asking: httpx.Client, file_id: str) -> httpx.Response:
    return asking.post("/v1/jobs", json=pretrain_spec(file_id))


def used(live: Live, asking: httpx.Client, file_id: str, seconds: float) -> str:
    """A job of that key that took so long."""
    job_id = submit(asking, file_id).json()["id"]
    fence = claimed(live, job_id)
    with live.database.write() as session:
        session.get_one(Attempt, (job_id, fence)).started_at -= seconds
    settled(live, job_id, fence)
    return job_id


def test_a_job_over_the_budget_of_its_key_is_refused_with_the_amount(live: Live, limited):
    key_id, asking = limited
    grant(live, key_id, worker_s=100)
    file_id = text_file(live.mine)
    used(live, asking, file_id, 120)
    answer = submit(asking, file_id)
    told = error(answer, 403)
    assert (told["code"], told["param"]) == ("over_budget", "worker_s")
    assert f"{key_id} may use 100 s of worker time a month and has used 12" in told["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert submit(live.mine, file_id).status_code == 201  # others of the project go on
    grant(live, key_id)
    time.sleep(1)
    assert submit(asking, file_id).status_code == 201


def test_creates_of_openais_clients_count_too(live: Live, limited):
    key_id, asking = limited
    grant(live, key_id, active_jobs=0)
    body = {"model": "none", "training_file": upload(live.mine).json()["id"]}
    headers = {"x-stainless-retry-count": "1"}
    assert error(asking.post("/v1/fine_tuning/jobs", json=body, headers=headers), 403)["param"] == "active_jobs"


def test_what_is_only_looked_at_takes_no_room_of_a_budget(live: Live, limited):
    key_id, asking = limited
    grant(live, key_id, active_jobs=0)
    spec = pretrain_spec(text_file(live.mine))
    for path, body in (("/v1/preview", {"spec": spec}), ("/v1/jobs?dry_run=true", spec)):
        assert error(asking.post(path, json=body), 503)["code"] == "desk_away"  # as far as it goes without a desk


def test_a_paused_job_does_not_go_on_while_it_is_over_budget(live: Live, limited):
    key_id, asking = limited
    grant(live, key_id, active_jobs=1)
    file_id = text_file(live.mine)
    first = submit(asking, file_id).json()["id"]
    assert asking.post(f"/v1/jobs/{first}/pause").status_code == 200
    second = submit(asking, file_id).json()["id"]
    assert error(asking.post(f"/v1/jobs/{first}/resume"), 403)["code"] == "over_budget"
    asking.post(f"/v1/jobs/{second}/cancel")
    assert asking.post(f"/v1/jobs/{first}/resume").json()["status"] == "queued"


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_whoever_asks_a_job_goes_on_by_the_budget_of_the_key_that_it_counts_for(live: Live, limited, verb: str):
    key_id, asking = limited
    job_id = submit(asking, text_file(live.mine)).json()["id"]
    if verb == "resume":
        asking.post(f"/v1/jobs/{job_id}/pause")
    else:
        settled(live, job_id, claimed(live, job_id), JobState.FAILED)
    grant(live, key_id, active_jobs=0)
    told = error(live.mine.post(f"/v1/jobs/{job_id}/{verb}"), 403)
    assert (told["code"], told["param"]) == ("over_budget", "active_jobs")
    assert key_id in told["message"]
    grant(live, key_id)
    assert live.mine.post(f"/v1/jobs/{job_id}/{verb}").json()["status"] == "queued"


def test_a_key_without_room_has_another_keys_job_go_on(live: Live, limited):
    key_id, asking = limited
    job_id = submit(live.mine, text_file(live.mine)).json()["id"]
    live.mine.post(f"/v1/jobs/{job_id}/pause")
    grant(live, key_id, active_jobs=0)
    time.sleep(1)
    assert asking.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "queued"


def test_a_job_that_is_still_pausing_goes_on_only_while_there_is_time_and_money(live: Live, limited):
    key_id, asking = limited
    job_id = submit(asking, text_file(live.mine)).json()["id"]
    fence = claimed(live, job_id)
    grant(live, key_id, active_jobs=1, storage_bytes=0)  # it has its place already
    asking.post(f"/v1/jobs/{job_id}/pause")
    assert live.mine.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "running"
    grant(live, key_id, worker_s=100)
    with live.database.write() as session:
        session.get_one(Attempt, (job_id, fence)).started_at -= 120
    asking.post(f"/v1/jobs/{job_id}/pause")
    for client_ in (asking, live.mine):
        assert error(client_.post(f"/v1/jobs/{job_id}/resume"), 403)["param"] == "worker_s"
    assert live.mine.get(f"/v1/jobs/{job_id}").json()["status"] == "pausing"
    settled(live, job_id, fence)


def test_a_file_over_the_budget_of_storage_is_not_kept(live: Live, limited):
    key_id, asking = limited
    grant(live, key_id, storage_bytes=10)
    content = CHAT * 3
    assert error(upload(asking, content), 403)["param"] == "storage_bytes"
    assert not live.service.blobs.exists(hashlib.sha256(content).hexdigest())
    assert upload(asking, b"to be\n", "pretrain", "a.txt").status_code == 201
    (told,) = [row for row in asking.get("/v1/budgets").json()["data"] if row["owner_id"] == key_id]
    assert (told["storage_bytes"], told["used"]["storage_bytes"]) == (10, 6)


def test_an_imported_model_counts_as_stored_and_is_not_kept_over_budget(live: Live, limited):
    key_id, asking = limited
    tar = hostile.tar()
    body = {"name": "counted", "licence": "mit", "files": [upload(asking, tar, "model", "m.tar").json()["id"]]}
    grant(live, key_id, storage_bytes=len(tar) + 10)
    time.sleep(1)
    assert error(asking.post("/v1/models", json=body), 403)["param"] == "storage_bytes"
    config = hashlib.sha256(hostile.model()["config.json"]).hexdigest()
    assert not live.service.blobs.exists(config)
    grant(live, key_id, storage_bytes=3 * len(tar))
    model = asking.post("/v1/models", json=body).json()
    (told,) = [row for row in asking.get("/v1/budgets").json()["data"] if row["owner_id"] == key_id]
    assert told["used"]["storage_bytes"] == len(tar) + model["size_bytes"]


def test_what_was_used_is_told_by_key_kind_and_day(live: Live, limited):
    key_id, asking = limited
    used(live, asking, text_file(live.mine), 90)
    mine = {"key_id": key_id}
    for by, of in (("key", key_id), ("kind", "pretrain"), ("day", str(datetime.now(UTC).date()))):
        report = asking.get("/v1/spend", params=mine | {"by": by}).json()
        assert [(row["of"], row["attempts"], row["cost"]) for row in report["data"]] == [(of, 1, None)]
        assert report["worker_s"] == pytest.approx(90, abs=10)
    assert live.theirs.get("/v1/spend", params=mine).json()["data"] == []


def test_an_operators_key_sees_what_all_projects_used_and_others_do_not(live: Live, limited):
    used(live, limited[1], text_file(live.mine), 1)
    with live.database.write() as session:
        _, token = keys.create(session, live.project_id, "operator", SECRET, scope=Scope.OPERATOR)
    with client(live.url, token) as operator:
        rows = operator.get("/v1/spend", params={"by": "project"}).json()["data"]
    assert live.project_id in {row["of"] for row in rows}
    assert error(live.theirs.get("/v1/spend", params={"project_id": live.project_id}), 404)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"since": "2026-02-30"}, "since"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "since"),
        ({"by": "colour"}, "by"),
    ],
)
def test_days_that_cannot_be_told_of_are_refused(live: Live, params: dict, param: str):
    assert error(live.mine.get("/v1/spend", params=params), 422)["param"] == param


@pytest.mark.parametrize("amount", [{"worker_s": -1}, {"active_jobs": 1.5}, {"money": "much"}, {"time": 1}])
def test_a_budget_that_is_none_is_refused_with_the_place(live: Live, limited, amount: dict):
    assert error(live.mine.put(f"/v1/keys/{limited[0]}/budget", json=amount), 422)["param"] == next(iter(amount))


def test_an_admins_key_cannot_set_the_budget_of_an_operators(live: Live):
    with live.database.write() as session:
        operator, _ = keys.create(session, live.project_id, "operator", SECRET, scope=Scope.OPERATOR)
    answer = live.mine.put(f"/v1/keys/{operator.id}/budget", json={"storage_bytes": 0})
    assert error(answer, 403)["param"] == "operator"
    with live.database.read() as session:
        assert budgets.get(session, operator.id) is None


def test_a_key_that_writes_cannot_raise_its_own_budget(live: Live, limited):
    assert error(limited[1].put(f"/v1/keys/{limited[0]}/budget", json={}), 403)["param"] == "admin"


@pytest.mark.parametrize("amount", ["0.5", "much", "-2"])
def test_a_number_of_jobs_is_a_whole_one_for_the_operator_too(amount: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        console.main(["budget", "any", "--active-jobs", amount])
    assert f"--active-jobs: {amount} is " in capsys.readouterr().err


def test_the_operator_sets_a_projects_budget_and_the_audit_log_tells(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", live.database.url)
    name = live.theirs.get("/v1/me").json()["project"]["name"]
    project_id = live.theirs.get("/v1/me").json()["project"]["id"]
    assert console.main(["budget", name, "--active-jobs", "0", "--money", "2.5"]) == 0
    assert f"{project_id}\tany\t2.5\t0\tany" in capsys.readouterr().out
    time.sleep(1)
    assert error(submit(live.theirs, text_file(live.theirs)), 403)["param"] == "active_jobs"
    with live.database.read() as session:
        (entry,) = audit.page(session, after=None, limit=1, object_id=project_id)[0]
    assert (entry.action, entry.key_id, entry.details) == ("budget.set", None, {"active_jobs": 0, "money": 2.5})
    assert console.main(["budget", name, "--active-jobs", "-1"]) == 0
    time.sleep(1)
    assert submit(live.theirs, text_file(live.theirs)).status_code == 201
    with live.database.read() as session:
        assert budgets.get(session, project_id).active_jobs is None
    assert console.main(["budget", "nobody"]) == 1
    assert console.main(["limit", name, "--max-running-jobs", "3"]) == 0
    with live.database.read() as session:
        (entry,) = audit.page(session, after=None, limit=1, object_id=project_id)[0]
    assert (entry.action, entry.details) == ("project.limit", {"share": 1.0, "max_running_jobs": 3})
