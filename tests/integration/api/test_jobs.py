"""Jobs over HTTP: what is accepted, what is refused and how to mend it, and what is shown."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event

from db import artifacts, files, leases, records
from db.state import JobState
from engine.errors import FailureClass
from tests.integration.api.live import (
    CHAT,
    Live,
    claimed,
    error,
    mixed_spec,
    pretrain_spec,
    published,
    started,
    stored,
    submitted,
    text_file,
    upload,
)

TWO_THAT_DIVIDE = {"nproc_per_node": 2, "parallel": {"zero_stage": 2}}
CHOICE = b'{"question": "2+2?", "choices": ["3", "4"], "answer": "B"}\n'


def test_a_job_is_accepted_at_once_while_the_broker_is_down(live: Live):
    began = time.monotonic()
    answer = live.mine.post("/v1/jobs", json=pretrain_spec(text_file(live.mine)))
    assert time.monotonic() - began < 2
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["kind"], job["status"], job["attempt"]) == ("job", "pretrain", "queued", 0)
    assert live.mine.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"


def test_the_stored_spec_has_no_auto_that_the_service_could_resolve(live: Live):
    job = live.mine.get(f"/v1/jobs/{submitted(live)}").json()
    assert job["spec"]["hyperparameters"]["learning_rate"] == 1e-3
    assert job["spec"]["hyperparameters"]["num_train_epochs"] == 1.0
    assert job["base"] is None


def test_a_model_is_pinned_to_the_version_that_is_meant_now(live: Live):
    published(live, "pinned", {"a": b"1"})
    second = published(live, "pinned", {"a": b"2"})
    file_id = upload(live.mine, CHAT).json()["id"]
    job = live.mine.post("/v1/jobs", json={"kind": "sft", "model": "pinned", "training_file": file_id}).json()
    assert job["spec"]["model"] == "pinned/2"
    assert job["base"] == {
        "id": second.id,
        "kind": "model",
        "name": "pinned",
        "version": 2,
        "digest": second.digest,
    }


@pytest.mark.parametrize(
    ("changes", "status", "code", "param", "hint"),
    [
        ({"hyperparameters": {"learning_rat": 1}}, 422, "unknown_key", "hyperparameters.learning_rat", "learning_rate"),
        ({"hyperparameters": {"learning_rate": 50}}, 422, "invalid_value", "hyperparameters.learning_rate", None),
        ({"kind": "pretrian"}, 422, "unknown_value", "kind", "pretrain"),
        ({"seed": 2**40}, 422, "less_than_equal", "seed", None),
        ({"seed": 10**40}, 422, "int_parsing_size", "seed", None),
        ({"state": "succeeded"}, 422, "unknown_key", "state", None),
        ({"project_id": "proj-1"}, 422, "unknown_key", "project_id", None),
        ({"metadata": {"k": "a\x00b"}}, 422, "invalid_value", "metadata.k", None),
        ({"training_file": "file-0"}, 404, "file_not_found", "training_file", None),
        ({"validation_file": "file-0"}, 404, "file_not_found", "validation_file", None),
        ({"model": "no-such-model"}, 422, "model_not_found", "model", None),
        (
            {"resources": TWO_THAT_DIVIDE, "hyperparameters": {"optim": "adamw_8bit"}},
            *(422, "invalid_value", "resources.parallel.zero_stage", None),
        ),
    ],
)
def test_a_spec_that_cannot_be_run_is_refused_with_its_path(live: Live, changes, status, code, param, hint):
    told = error(live.mine.post("/v1/jobs", json=pretrain_spec(text_file(live.mine)) | changes), status)
    assert (told["code"], told["param"]) == (code, param)
    assert hint is None or hint in (told["errors"][0]["hint"] or "")


def test_a_refusal_names_its_place_once(live: Live):
    shared = {"resources": TWO_THAT_DIVIDE, "hyperparameters": {"optim": "adamw_8bit"}}
    told = error(live.mine.post("/v1/jobs", json=pretrain_spec(text_file(live.mine)) | shared), 422)
    assert told["message"].startswith("resources.parallel.zero_stage is 2; ")
    told = error(live.mine.post("/v1/jobs", json=pretrain_spec(text_file(live.mine)) | {"seed": 2**40}), 422)
    assert told["message"].startswith("seed: ")


def test_an_unknown_file_of_a_mixture_is_named_with_its_place(live: Live):
    told = error(live.mine.post("/v1/jobs", json=mixed_spec(text_file(live.mine), "file-0")), 404)
    assert (told["code"], told["param"]) == ("file_not_found", "mixture[1].file")


def test_an_unknown_model_gets_a_did_you_mean(live: Live):
    published(live, "storyteller", {"a": b"1"})
    file_id = upload(live.mine, CHAT).json()["id"]
    body = {"kind": "sft", "model": "storyteler", "training_file": file_id}
    told = error(live.mine.post("/v1/jobs", json=body), 422)
    assert (told["code"], told["errors"][0]["hint"]) == ("model_not_found", "did you mean 'storyteller'?")


def test_a_file_whose_rows_do_not_fit_the_kind_is_refused(live: Live):
    file_id = upload(live.mine, CHAT).json()["id"]
    told = error(live.mine.post("/v1/jobs", json=pretrain_spec(file_id)), 422)
    assert (told["code"], told["param"]) == ("wrong_file_format", "training_file")


@pytest.mark.parametrize(("kind", "other"), [("dpo", "sft"), ("sft", "dpo")])
def test_pairs_are_for_dpo_and_conversations_for_sft(live: Live, kind: str, other: str):
    published(live, "storyteller", {"a": b"1"})
    rows = {"dpo": b'{"prompt": "2+2?", "chosen": "4", "rejected": "5"}\n', "sft": CHAT}
    body = {"model": "storyteller", "training_file": upload(live.mine, rows[kind]).json()["id"]}
    assert live.mine.post("/v1/jobs", json=body | {"kind": kind}).status_code == 201
    told = error(live.mine.post("/v1/jobs", json=body | {"kind": other}), 422)
    assert (told["code"], told["param"]) == ("wrong_file_format", "training_file")


def test_full_tuning_does_not_start_from_an_adapter(live: Live):
    published(live, "an-adapter", {"a": b"1"}, kind="adapter")
    file_id = upload(live.mine, CHAT).json()["id"]
    body = {"kind": "sft", "model": "an-adapter", "training_file": file_id, "tuning": {"method": "full"}}
    assert error(live.mine.post("/v1/jobs", json=body), 422)["code"] == "wrong_model_layout"
    assert live.mine.post("/v1/jobs", json=body | {"tuning": {"method": "lora"}}).status_code == 201


def test_jobs_are_listed_newest_first_by_pages_kind_and_status(live: Live):
    ids = [submitted(live) for _ in range(3)]
    first = live.mine.get("/v1/jobs", params={"limit": 2, "kind": "pretrain", "status": "queued"}).json()
    second = live.mine.get("/v1/jobs", params={"limit": 1, "after": first["last_id"]}).json()
    assert [job["id"] for job in first["data"] + second["data"]] == ids[::-1]
    assert first["has_more"]
    assert live.mine.get("/v1/jobs", params={"kind": "eval"}).json()["data"] == []


def test_jobs_are_asked_for_by_their_ids(live: Live):
    first, _, third = [submitted(live) for _ in range(3)]
    wanted = {"id": [first, third, "nothing of ours"]}
    assert [job["id"] for job in live.mine.get("/v1/jobs", params=wanted).json()["data"]] == [third, first]
    assert live.theirs.get("/v1/jobs", params=wanted).json()["data"] == []
    assert error(live.mine.get("/v1/jobs", params={"id": [first] * 101}), 422)["param"] == "id"


@pytest.mark.parametrize(
    ("params", "param"), [({"limit": 0}, "limit"), ({"limit": "x"}, "limit"), ({"status": "done"}, "status")]
)
def test_a_bad_query_is_refused_by_name(live: Live, params, param):
    assert error(live.mine.get("/v1/jobs", params=params), 422)["param"] == param


def test_a_waiting_job_says_where_it_stands_and_why(live: Live):
    ahead = live.mine.get(f"/v1/jobs/{submitted(live)}").json()["queue_position"]
    job = live.mine.get(f"/v1/jobs/{submitted(live, resources={'priority': -100})}").json()
    assert job["queue_position"] > ahead
    assert job["waiting_reason"] == f"no worker is alive, {job['queue_position'] - 1} are ahead"
    assert job["estimated_start_at"] is None


def test_continue_from_is_another_name_for_the_model(live: Live):
    made = published(live, "onward", {"a": b"1"})
    spec = {"kind": "sft", "continue_from": "onward", "training_file": upload(live.mine).json()["id"]}
    job = live.mine.post("/v1/jobs", json=spec).json()
    assert (job["spec"]["model"], job["base"]["id"], job["spec"]["optimizer_state"]) == ("onward/1", made.id, "fresh")
    twice = error(live.mine.post("/v1/jobs", json=spec | {"model": "onward"}), 422)
    assert "one value, given twice" in twice["message"]


def test_the_optimizer_state_of_what_has_none_cannot_be_kept(live: Live):
    published(live, "stateless", {"a": b"1"})
    rows = upload(live.mine).json()["id"]
    spec = {"kind": "sft", "model": "stateless", "training_file": rows, "optimizer_state": "kept"}
    refused = error(live.mine.post("/v1/jobs", json=spec), 422)
    assert (refused["code"], refused["param"]) == ("no_optimizer_state", "optimizer_state")
    new = pretrain_spec(text_file(live.mine), optimizer_state="kept")
    assert "name a checkpoint as model" in error(live.mine.post("/v1/jobs", json=new), 422)["message"]


def test_a_running_job_shows_its_progress(live: Live):
    job_id, fence = started(live)
    metric = {"split": "train", "step": 7, "values": {"loss": 2.5, "eta_s": 12.0, "mfu": None}, "created_at": 1.0}
    with live.database.write() as session:
        records.append(session, job_id, fence, events=[], metrics=[metric], lease_s=60)
    job = live.mine.get(f"/v1/jobs/{job_id}").json()
    assert (job["step"], job["eta_s"], job["progress"]["loss"], job["attempt"]) == (7, 12.0, 2.5, 1)


def test_a_failed_job_says_why_and_how_to_mend_it(live: Live):
    job_id, fence = started(live)
    with live.database.write() as session:
        leases.settle(
            session,
            job_id,
            fence,
            state=JobState.FAILED,
            failure=FailureClass.DIVERGED,
            code="loss_not_finite",
            message="the loss is no longer a number",
            mend="halve learning_rate",
        )
    job = live.mine.get(f"/v1/jobs/{job_id}").json()
    assert job["status"] == "failed"
    assert job["error"] == {
        "class": "diverged",
        "code": "loss_not_finite",
        "message": "the loss is no longer a number",
        "mend": "halve learning_rate",
    }


def test_a_job_that_succeeded_shows_its_result_and_what_it_made(live: Live):
    made = published(live, "result", {"a": b"1"})
    job = live.mine.get(f"/v1/jobs/{made.job_id}").json()
    assert (job["status"], job["result"]) == ("succeeded", {"metrics": {"eval_loss": 1.5}, "groups": {}})
    assert [(a["id"], a["kind"], a["name"], a["version"]) for a in job["artifacts"]] == [
        (made.id, "model", "result", 1)
    ]


def test_a_finished_evaluation_names_the_file_of_its_items(live: Live):
    made = published(live, "scored", {"a": b"1"})
    eval_file = upload(live.mine, purpose="evals").json()["id"]
    job_id = live.mine.post("/v1/jobs", json={"kind": "eval", "model": "scored", "eval_file": eval_file}).json()["id"]
    fence = claimed(live, job_id)
    sha256, size_bytes = stored(live, b'{"line": 1}\n')
    with live.database.write() as session:
        items = files.add(
            session, live.project_id,
            filename="items.jsonl", purpose="eval-results", size_bytes=size_bytes, sha256=sha256, format="items", row_count=1,
        )  # fmt: skip
        groups = {"cats": {"eval_acc/helm": 0.5}}
        result = {"metrics": {"eval_acc/helm": 0.5}, "groups": groups, "files": [items.id]}
        leases.settle(session, job_id, fence, state=JobState.SUCCEEDED, result=result)
    job = live.mine.get(f"/v1/jobs/{job_id}").json()
    assert (job["result_files"], job["result"]["groups"], job["base"]["id"]) == ([items.id], groups, made.id)
    assert live.mine.get(f"/v1/files/{items.id}").json()["purpose"] == "eval-results"
    assert live.mine.get(f"/v1/files/{items.id}/content").content == b'{"line": 1}\n'


@pytest.mark.parametrize("field", ["model", "compare_to"])
def test_a_job_on_a_model_that_is_just_being_deleted_is_refused(live: Live, field: str):
    kept, gone = (published(live, f"{name}-{field}", {"a": b"1"}) for name in ("kept", "gone"))
    eval_file = upload(live.mine, purpose="evals").json()["id"]
    body = {"kind": "eval", "model": kept.id, "compare_to": kept.id, "eval_file": eval_file, field: gone.id}
    with ThreadPoolExecutor() as aside:
        with live.database.write() as session:
            assert artifacts.delete(session, live.project_id, gone.id)
            asking = aside.submit(live.mine.post, "/v1/jobs", json=body)
            time.sleep(0.5)  # it finds the model, for nothing is committed yet
        told = error(asking.result(30), 422)
    assert (told["code"], told["param"]) == ("model_not_found", field)


def test_an_older_version_that_a_name_comes_to_mean_is_not_deleted_under_the_job_either(live: Live):
    if live.database.dialect == "sqlite":
        pytest.skip("nobody deletes while another writes")
    first, second = (published(live, "twice", {"a": b"1"}) for _ in range(2))
    body = {"kind": "sft", "model": "twice", "training_file": upload(live.mine, CHAT).json()["id"]}
    with ThreadPoolExecutor() as aside:
        with live.database.write() as older:
            assert artifacts.delete(older, live.project_id, first.id)
            with live.database.write() as newer:
                assert artifacts.delete(newer, live.project_id, second.id)
                asking = aside.submit(live.mine.post, "/v1/jobs", json=body)
                time.sleep(0.5)  # it waits for the newer one, then finds the older
            time.sleep(0.5)
        told = error(asking.result(30), 422)
    assert (told["code"], told["param"]) == ("model_not_found", "model")


def test_what_a_job_compares_with_is_pinned_and_kept_until_the_job_ends(live: Live):
    published(live, "candidate", {"a": b"1"})
    published(live, "rival", {"a": b"1"})
    eval_file = upload(live.mine, purpose="evals").json()["id"]
    body = {"kind": "eval", "model": "candidate", "eval_file": eval_file, "compare_to": "rival"}
    job = live.mine.post("/v1/jobs", json=body).json()
    assert (job["spec"]["model"], job["spec"]["compare_to"]) == ("candidate/1", "rival/1")
    assert error(live.mine.delete("/v1/models/rival"), 409)
    live.mine.post(f"/v1/jobs/{job['id']}/cancel")
    assert live.mine.delete("/v1/models/rival").status_code == 200
    refused = error(live.mine.post("/v1/jobs", json=body), 422)
    assert (refused["code"], refused["param"]) == ("model_not_found", "compare_to")


@pytest.mark.parametrize(
    ("task", "content", "refused"),
    [("generate", CHOICE, True), ("multiple_choice", CHAT, True), ("loss", CHOICE, True), ("auto", CHOICE, False)],
)
def test_a_file_whose_rows_the_task_cannot_use_is_refused(live: Live, task: str, content: bytes, refused: bool):
    published(live, "judged", {"a": b"1"})
    eval_file = upload(live.mine, content, "evals").json()["id"]
    body = {"kind": "eval", "model": "judged", "eval_file": eval_file, "evaluation": {"task": task}}
    answer = live.mine.post("/v1/jobs", json=body)
    if refused:
        assert (error(answer, 422)["code"], error(answer, 422)["param"]) == ("wrong_file_format", "eval_file")
    else:
        assert answer.status_code == 201, answer.text


def test_events_come_in_order_by_pages_and_by_level(live: Live):
    job_id, fence = started(live)
    told = [
        {"type": "log", "level": level, "message": str(n), "data": {}, "created_at": float(n)}
        for n, level in enumerate(["info", "warn", "info"])
    ]
    with live.database.write() as session:
        records.append(session, job_id, fence, events=told, metrics=[], lease_s=60)
    url = f"/v1/jobs/{job_id}/events"
    whole = live.mine.get(url).json()["data"]
    assert [event["seq"] for event in whole] == sorted(event["seq"] for event in whole)
    assert whole[0]["type"] == "created"
    first = live.mine.get(url, params={"limit": 2}).json()
    rest = live.mine.get(url, params={"after": first["last_id"]}).json()
    assert first["data"] + rest["data"] == whole
    assert [event["message"] for event in live.mine.get(url, params={"level": "warn"}).json()["data"]] == ["1"]
    assert live.mine.get(url, params={"order": "desc"}).json()["data"] == whole[::-1]


def test_metrics_come_by_step_and_split(live: Live):
    job_id, fence = started(live)
    told = [
        {"split": split, "step": step, "values": {"loss": float(step)}, "created_at": float(step)}
        for step in range(1, 6)
        for split in ("train", "eval")
    ]
    with live.database.write() as session:
        records.append(session, job_id, fence, events=[], metrics=told, lease_s=60)
    url = f"/v1/jobs/{job_id}/metrics"
    train = live.mine.get(url, params={"split": "train", "limit": 3}).json()
    assert [(row["step"], row["values"]["loss"]) for row in train["data"]] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    rest = live.mine.get(url, params={"split": "train", "after": train["last_id"]}).json()
    assert [row["step"] for row in rest["data"]] == [4, 5]
    assert len(live.mine.get(url).json()["data"]) == 10


def test_each_kind_publishes_the_schema_of_its_spec(live: Live):
    kinds = {kind["id"]: kind for kind in live.mine.get("/v1/kinds").json()["data"]}
    assert set(kinds) == {"pretrain", "sft", "dpo", "eval"}
    assert "training_file" in kinds["sft"]["schema"]["properties"]


def test_an_adapter_whose_model_is_deleted_starts_no_job(live: Live):
    model = published(live, "to-be-deleted", {"a": b"1"})
    adapter = published(live, "left-behind", {"a": b"2"}, kind="adapter")
    with live.database.write() as session:
        row = artifacts.get(session, live.project_id, adapter.id)
        assert row is not None
        row.base_artifact_id = model.id
    rows = upload(live.mine, purpose="evals").json()["id"]
    body = {"kind": "eval", "model": "left-behind", "eval_file": rows}
    assert live.mine.post("/v1/jobs", json=body).status_code == 201
    job_id = live.mine.get("/v1/jobs").json()["first_id"]
    assert live.mine.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert live.mine.delete("/v1/models/to-be-deleted").status_code == 200
    error = live.mine.post("/v1/jobs", json=body).json()["error"]
    assert (error["code"], error["param"]) == ("base_deleted", "model")
    assert "to-be-deleted/1, which has been deleted; start from another" in error["message"]


def test_a_page_of_jobs_asks_for_their_artifacts_at_once(live: Live):
    for number in range(3):
        published(live, f"listed-{number}", {"a": b"1"})
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_rest):
        asked.append(statement)

    engine = live.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        jobs = live.mine.get("/v1/jobs", params={"limit": 3, "status": "succeeded"}).json()["data"]
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert [job["artifacts"][0]["name"] for job in jobs] == ["listed-2", "listed-1", "listed-0"]
    assert sum("FROM artifacts" in statement for statement in asked) == 1  # none asks for bases: no job has one
