"""Plans over HTTP: a real desk, a real engine; what their jobs came to is entered as a worker does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from db import jobs, leases
from db.models import Job
from db.state import JobState
from tests import runs
from tests.integration.api.desk import at_the_desk, tiny_base
from tests.integration.api.live import Live, claimed, upload
from workers.desk import Desk


@pytest.fixture(scope="module")
def desk(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    tiny_base(live, tmp_path_factory.mktemp("base"))
    with at_the_desk(live) as running:
        yield running


def spec(live: Live, **changes: Any) -> dict[str, Any]:
    rows = "".join(json.dumps(row) + "\n" for row in runs.answers(30)).encode()
    return {"kind": "sft", "model": "tiny", "training_file": upload(live.mine, rows).json()["id"], **changes}


def planned(live: Live, **changes: Any) -> dict[str, Any]:
    answer = live.mine.post("/v1/jobs", params={"dry_run": True}, json=spec(live, **changes))
    assert answer.status_code == 200, answer.text
    return answer.json()


def evaluated(live: Live, **evaluation: Any) -> dict[str, Any]:
    """The plan of an evaluation against the model itself."""
    rows = "".join(json.dumps(row) + "\n" for row in runs.answers(20)).encode()
    asked = {"kind": "eval", "model": "tiny", "compare_to": "tiny", "evaluation": evaluation}
    asked["eval_file"] = upload(live.mine, rows, "evals").json()["id"]
    answer = live.mine.post("/v1/jobs", params={"dry_run": True}, json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def succeeded(live: Live, job_id: str, plan: dict[str, Any], **changes: Any) -> None:
    usage = {name: plan[name] for name in ("steps", "tokens", "trained_tokens")}
    spec = plan["spec"]
    decided = spec["evaluation"] if spec["kind"] == "eval" else spec["hyperparameters"]
    usage |= {"device": "cpu", "precision": decided["precision"], "method": "lora"}
    usage |= {"peak_memory_bytes": plan["memory"]["total"], "runtime_bytes": 1 << 29, "flops": 1e9}
    effort = {"flops": 1e9, "passes": 10.0, "updates": 1e3, "written": 1e3}
    usage |= {"effort": dict.fromkeys(("steps", "scoring", "around"), effort)}
    usage |= {"part_seconds": {"steps": 1.0, "scoring": 0.5}, **changes}
    fence = claimed(live, job_id)
    with live.database.write() as session:
        result = {"metrics": {}, "groups": {}, "files": [], "usage": usage}
        assert leases.settle(session, job_id, fence, state=JobState.SUCCEEDED, result=result)


def test_a_dry_run_makes_a_plan_and_no_job(live: Live, desk):
    before = len(live.mine.get("/v1/jobs").json()["data"])
    plan = planned(live, hyperparameters={"num_train_epochs": 2})
    assert len(live.mine.get("/v1/jobs").json()["data"]) == before
    assert plan["steps"] >= 2
    assert plan["memory"]["total"] == sum(size for name, size in plan["memory"].items() if name != "total")
    assert plan["eta"]["low_s"] < plan["eta"]["expected_s"] < plan["eta"]["high_s"]
    assert plan["fits"] is True
    assert plan["cost"] is None
    assert "auto" not in json.dumps(
        {name: plan["spec"][name] for name in ("hyperparameters", "checkpoints", "resources")}
    )
    assert live.mine.get(f"/v1/plans/{plan['id']}").json() == plan
    assert plan["id"] in [row["id"] for row in live.mine.get("/v1/plans").json()["data"]]


def test_a_job_of_a_plan_has_its_spec_and_is_held_against_it(live: Live, desk):
    plan = planned(live)
    answer = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]})
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert job["spec"] == plan["spec"]
    assert (job["plan"]["id"], job["plan"]["actual"]) == (plan["id"], None)
    succeeded(live, job["id"], plan, peak_memory_bytes=plan["memory"]["total"] * 2)
    shown = live.mine.get(f"/v1/jobs/{job['id']}").json()["plan"]
    assert shown["actual"]["steps"] == shown["predicted"]["steps"] == plan["steps"]
    told = live.mine.get("/v1/plans/accuracy").json()
    assert told["steps"] == {"jobs": 1, "share": 1.0, "median": 0.0, "worst": 0.0}
    assert (told["memory"]["share"], told["memory"]["worst"]) == (0.0, 0.5)


def test_an_evaluation_is_planned_and_held_against_its_plan(live: Live, desk):
    before = live.mine.get("/v1/plans/accuracy").json()
    plan = evaluated(live, per_device_eval_batch_size=2, max_length=64)
    assert plan["spec"]["evaluation"]["task"] == "loss"
    assert plan["spec"]["compare_to"] == "tiny/1"
    assert plan["steps"] % 2 == 0
    assert plan["exact"]
    assert plan["memory"]["optimizer"] == plan["memory"]["gradients"] == plan["trainable_parameters"] == 0
    assert plan["files"][0]["rows"] == 20
    assert 0 < plan["eta"]["low_s"] < plan["eta"]["expected_s"] < plan["eta"]["high_s"]
    job = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]}).json()
    assert job["spec"] == plan["spec"]
    succeeded(live, job["id"], plan, method="loss")
    shown = live.mine.get(f"/v1/jobs/{job['id']}").json()["plan"]
    assert shown["exact"]
    assert shown["actual"]["tokens"] == shown["predicted"]["tokens"] == plan["tokens"]
    told = live.mine.get("/v1/plans/accuracy").json()
    assert told["steps"]["jobs"] == told["tokens"]["jobs"] == before["tokens"]["jobs"] + 1
    assert evaluated(live)["eta"]["runs"] == 1


def test_tokens_that_were_foretold_at_most_are_no_miss(live: Live, desk):
    plan = evaluated(live, task="generate", max_new_tokens=4, max_length=64)
    assert not plan["exact"]
    job = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]}).json()
    before = live.mine.get("/v1/plans/accuracy").json()
    succeeded(live, job["id"], plan, method="generate", tokens=plan["tokens"] - 1)
    assert not live.mine.get(f"/v1/jobs/{job['id']}").json()["plan"]["exact"]
    told = live.mine.get("/v1/plans/accuracy").json()
    assert told["tokens"] == before["tokens"]
    assert told["steps"]["jobs"] == before["steps"]["jobs"] + 1


def test_a_run_that_may_stop_early_is_no_miss_where_it_did(live: Live, desk):
    rows = "".join(json.dumps(row) + "\n" for row in runs.answers(8, seed=1)).encode()
    held_out = upload(live.mine, rows).json()["id"]
    plan = planned(live, validation_file=held_out, checkpoints={"early_stopping_patience": 1})
    assert not plan["exact"]
    job = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]}).json()
    before = live.mine.get("/v1/plans/accuracy").json()
    succeeded(live, job["id"], plan, steps=plan["steps"] - 1, tokens=plan["tokens"] // 2)
    told = live.mine.get("/v1/plans/accuracy").json()
    assert {name: told[name] for name in ("steps", "tokens", "time")} == {
        name: before[name] for name in ("steps", "tokens", "time")
    }
    assert told["memory"]["jobs"] == before["memory"]["jobs"] + 1


def test_what_was_learnt_of_a_device_stays_however_many_jobs_another_has_run_since(live: Live, desk):
    plan = planned(live)
    job_id = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]}).json()["id"]
    succeeded(live, job_id, plan)
    runs = planned(live)["eta"]["runs"]
    assert runs > 0
    with live.database.write() as session:
        told = session.get_one(Job, job_id)
        usage = {"usage": (told.result or {})["usage"] | {"device": "cuda"}}
        many = jobs.create(session, [jobs.NewJob(live.project_id, told.spec, "sft", 0) for _ in range(70)])
        ended = {"state": "succeeded", "fence": 1, "result": usage}
        ended |= {name: getattr(told, name) for name in ("started_at", "finished_at")}
        session.execute(update(Job).where(Job.id.in_([job.id for job in many])).values(ended))
    assert planned(live)["eta"]["runs"] == runs


def test_a_plan_is_its_projects_alone(live: Live, desk):
    plan = planned(live)
    assert live.theirs.get(f"/v1/plans/{plan['id']}").status_code == 404
    assert live.theirs.post("/v1/jobs", json={"plan_id": plan["id"]}).status_code == 404
    assert live.theirs.get("/v1/plans").json()["data"] == []
    assert live.theirs.get("/v1/plans/accuracy").json()["steps"]["jobs"] == 0


def test_a_plan_whose_file_is_gone_is_refused(live: Live, desk):
    plan = planned(live)
    assert live.mine.delete(f"/v1/files/{plan['spec']['training_file']}").status_code == 200
    answer = live.mine.post("/v1/jobs", json={"plan_id": plan["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


def test_a_dry_run_of_a_job_that_would_be_refused_is_refused(live: Live):
    answer = live.mine.post("/v1/jobs", params={"dry_run": True}, json={"kind": "sft"})
    assert answer.status_code == 422


@pytest.mark.parametrize("plan_id", ["plan-0", "plan-0\0", None])
def test_a_plan_that_is_not_there_is_a_404(live: Live, plan_id: Any):
    answer = live.mine.post("/v1/jobs", json={"plan_id": plan_id})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "plan_not_found")


def test_an_estimate_tells_what_a_known_model_needs_on_many_gpus(live: Live):
    asked = {"model": "llama-3.1-405b", "gpu": "h200", "gpus": 16_384, "tokens": "15.6e12", "price_per_gpu_hour": 2}
    told = live.mine.get("/v1/plans/estimate", params=asked).json()
    assert told["fits"]
    assert told["zero_stage"] == 3
    assert told["gpu_hours"]["low"] < 30.84e6 < told["gpu_hours"]["high"]
    assert told["cost"]["low"] == 2 * told["gpu_hours"]["low"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "gpt-5"}, "model"),
        ({"tokens": "inf"}, "tokens"),
        ({"mfu_low": 0.9}, "mfu_low"),
        ({"mfu_low": 1e-310}, "mfu_low"),
        ({"gpu": "tpu"}, "gpu"),
    ],
)
def test_an_estimate_of_what_is_not_known_is_refused_by_its_name(live: Live, change: dict[str, Any], param: str):
    answer = live.mine.get("/v1/plans/estimate", params={"model": "llama-2-7b", "tokens": "1e12"} | change)
    assert answer.status_code == 422
    assert param in (answer.json()["error"]["param"] or "")
