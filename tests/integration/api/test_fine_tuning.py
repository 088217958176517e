"""Fine-tuning jobs as OpenAI's clients ask for them: the one job spec that a request means, and its way back."""

from typing import Any

import httpx
import pytest

from db import records
from db.models import Job
from tests.integration.api.live import Live, claimed, published, settled, text_file, upload


@pytest.fixture(scope="module")
def base(live: Live) -> str:
    published(live, "base", {"config.json": b"{}"})
    return "base"


@pytest.fixture(scope="module")
def file_id(live: Live) -> str:
    return upload(live.mine).json()["id"]


def asked(live: Live, **body: Any) -> httpx.Response:
    return live.mine.post("/v1/fine_tuning/jobs", json=body)


def refusal(answer: httpx.Response, status: int = 400) -> tuple[str, str | None]:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["code"], answer.json()["error"]["param"]


def test_a_request_becomes_the_job_spec_of_the_native_route(live: Live, base, file_id):
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
    tuning = {"method": "lora", "r": 8}
    shown = asked(live, model=base, training_file=file_id, seed=3, suffix="x", method=method, tuning=tuning).json()
    hyperparameters = {"num_train_epochs": 2, "per_device_train_batch_size": 4}
    spec = {"kind": "sft", "model": base, "training_file": file_id, "validation_file": None, "seed": 3, "suffix": "x"}
    native = live.mine.post("/v1/jobs", json=spec | {"tuning": tuning, "hyperparameters": hyperparameters}).json()
    assert live.mine.get(f"/v1/jobs/{shown['id']}").json()["spec"] == native["spec"]
    assert shown["tuning"]["r"] == 8
    hyperparameters = shown["method"]["supervised"]["hyperparameters"]
    assert hyperparameters.items() <= shown["hyperparameters"].items()
    assert {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0}.items() <= hyperparameters.items()


@pytest.mark.parametrize("multiplier", [0.5, 3, "auto"])
def test_the_multiplier_is_of_the_rate_that_auto_stands_for(live: Live, base, file_id, multiplier):
    told = {"learning_rate_multiplier": multiplier}
    shown = asked(live, model=base, training_file=file_id, hyperparameters=told).json()["hyperparameters"]
    factor = 1 if multiplier == "auto" else multiplier
    assert shown["learning_rate"] == pytest.approx(1e-3 * factor)
    assert shown["learning_rate_multiplier"] == pytest.approx(factor)


@pytest.mark.parametrize("where", ["method", "top", "both"])
def test_the_multiplier_is_the_methods_or_else_the_deprecated_one(live: Live, base, file_id, where):
    method = {"learning_rate_multiplier": "auto" if where == "top" else 2, "n_epochs": 1}
    top = {"learning_rate_multiplier": {"top": 3, "both": 5}.get(where), "batch_size": "auto", "n_epochs": None}
    body = {"method": {"type": "supervised", "supervised": {"hyperparameters": method}}, "hyperparameters": top}
    answer = asked(live, model=base, training_file=file_id, **body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()["hyperparameters"]
    assert shown["learning_rate_multiplier"] == pytest.approx(3 if where == "top" else 2)
    assert shown["num_train_epochs"] == 1


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5},
        {"max_steps": 5, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
    ],
)
def test_a_jobs_own_method_can_be_sent_back(live: Live, base, file_id, hyperparameters):
    first = asked(live, model=base, training_file=file_id, hyperparameters=hyperparameters).json()
    method = first["method"] | {"dpo": None, "reinforcement": None}  # as OpenAI's clients write it
    answer = asked(live, model=base, training_file=file_id, method=method, hyperparameters=None)
    assert answer.status_code == 200, answer.text
    again = answer.json()
    for name in ("n_epochs", "batch_size", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"):
        assert again["hyperparameters"][name] == first["hyperparameters"][name]
    assert again["hyperparameters"]["learning_rate"] == pytest.approx(first["hyperparameters"]["learning_rate"])


@pytest.mark.parametrize("settings", [None, {"hyperparameters": None}])
def test_a_method_of_nulls_has_the_defaults(live: Live, base, file_id, settings):
    method = {"type": "supervised", "supervised": settings}
    assert asked(live, model=base, training_file=file_id, method=method).status_code == 200


def test_pretraining_is_a_method_too(live: Live):
    body = {"model": {"hidden_size": 64}, "training_file": text_file(live.mine), "method": {"type": "pretrain"}}
    assert asked(live, **body).json()["method"]["type"] == "pretrain"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"model": "gpt-9"}, "model_not_found", "model"),
        ({"training_file": "file-none"}, "file_not_found", "training_file"),
        ({"training_file": None}, "invalid_value", "training_file"),
        ({"learning_rat": 1}, "unknown_key", "learning_rat"),
        ({"hyperparameters": {"n_epoch": 1}}, "unknown_key", "hyperparameters.n_epoch"),
        ({"suffix": "no spaces here"}, "string_pattern_mismatch", "suffix"),
    ],
)
def test_what_the_spec_cannot_hold_is_a_400_that_says_where(live: Live, base, file_id, changes, code, param):
    assert refusal(asked(live, **{"model": base, "training_file": file_id} | changes)) == (code, param)


def test_a_dpo_field_that_is_no_object_is_refused_beside_the_method_too(live: Live, base, file_id):
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    answer = asked(live, model=base, training_file=file_id, method=method, dpo="x")
    assert refusal(answer)[1] == "dpo"


def test_a_dpo_field_of_null_leaves_the_beta_of_the_method(live: Live, base):
    pair = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job = asked(live, model=base, training_file=upload(live.mine, pair).json()["id"], method=method, dpo=None).json()
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == 0.2


@pytest.mark.parametrize("method", [{"type": "reinforcement"}, {"type": "dpo", "dpo": {"hyperparameters": 3}}, 7])
def test_a_method_that_is_none_is_refused(live: Live, base, file_id, method):
    answer = asked(live, model=base, training_file=file_id, method=method)
    assert refusal(answer, 422)[1].startswith("method")


def test_jobs_are_found_by_their_metadata_and_by_having_none(live: Live, base, file_id):
    def found(**params: str) -> list[str]:
        return [job["id"] for job in live.mine.get("/v1/fine_tuning/jobs", params=params).json()["data"]]

    plain = asked(live, model=base, training_file=file_id).json()["id"]
    marked = asked(live, model=base, training_file=file_id, metadata={"a b": "é", "n": "1"}).json()["id"]
    assert found(**{"metadata[a b]": "é", "metadata[n]": "1"}) == [marked]
    assert found(**{"metadata[a b]": "other"}) == []
    without = found(metadata="null")
    assert plain in without
    assert marked not in without


HOSTILE = {
    "quoting": ('"', '""', "a\"b'c", '"quoted"', "'", "`", "\\", 'a\\"b', "\\u0041", "\n\t"),
    "paths": ("{", "}", "{a,b}", ",", "a.b", "a[0]", "[0]", "[#-1]", "$", "$.a", "#", "0", "-1", "a]b", "metadata[x]"),
    "words": ("null", "NULL", "true", "*", " ", " a ", "a  b", "\ta"),
    "others": ("%", "%s", "%%", "%(a)s", ":a", "?", "é", "e\u0301", "😀", "\u2028", "\x7f", "\ufffd", "x" * 64, "😀" * 64),
}  # fmt: skip


@pytest.mark.parametrize("keys", HOSTILE.values(), ids=HOSTILE)
def test_a_key_of_metadata_is_found_as_it_stands_whatever_is_in_it(live: Live, base, file_id, keys: tuple[str, ...]):
    def found(key: str, value: str) -> list[str]:
        answer = live.mine.get("/v1/fine_tuning/jobs", params={f"metadata[{key}]": value, "limit": 100})
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    for key in keys:
        job = asked(live, model=base, training_file=file_id, metadata={key: f"v{key}", "A": "as well"})
        assert found(key, f"v{key}") == [job.json()["id"]], key
        assert found(key, "v") == found(key, f"v{key} ") == found(f"{key} ", f"v{key}") == [], key


def test_events_and_figures_are_listed_newest_first_and_page_by_page(live: Live, base, file_id):
    job_id = asked(live, model=base, training_file=file_id).json()["id"]
    fence = claimed(live, job_id)
    metrics = [
        {"split": "train", "step": n, "values": {"loss": 1.0 / n, "tokens": 5.0 * n}, "created_at": n} for n in (1, 2)
    ]
    with live.database.write() as session:
        records.append(session, job_id, fence, events=[], metrics=metrics, lease_s=60)
    url = f"/v1/fine_tuning/jobs/{job_id}/events"
    first = live.mine.get(url, params={"limit": 2}).json()
    assert [(event["message"], event["data"]["train_loss"]) for event in first["data"]] == [
        ("Step 2: train loss=0.5000", 0.5),
        ("Step 1: train loss=1.0000", 1.0),
    ]
    second = live.mine.get(url, params={"after": first["last_id"]}).json()
    assert [event["type"] for event in second["data"]] == ["message"] * 3
    settled(live, job_id, fence)
    assert live.mine.get(f"/v1/fine_tuning/jobs/{job_id}").json()["trained_tokens"] == 10


def test_a_job_that_trains_nothing_is_none_of_these(live: Live):
    spec = {"kind": "eval", "model": "base", "eval_file": upload(live.mine, purpose="evals").json()["id"]}
    job_id = live.mine.post("/v1/jobs", json=spec).json()["id"]
    assert live.mine.get(f"/v1/fine_tuning/jobs/{job_id}").status_code == 404
    assert job_id not in [job["id"] for job in live.mine.get("/v1/fine_tuning/jobs").json()["data"]]


def test_stopping_what_has_ended_is_a_conflict_that_nobody_retries(live: Live, base, file_id):
    job_id = asked(live, model=base, training_file=file_id).json()["id"]
    settled(live, job_id, claimed(live, job_id))
    answer = live.mine.post(f"/v1/fine_tuning/jobs/{job_id}/cancel")
    assert refusal(answer, 409)[0] == "job_ended"
    assert answer.headers["x-should-retry"] == "false"


def test_integrations_are_taken_and_an_event_says_that_nothing_goes_there(live: Live, base, file_id):
    integrations = [{"type": "wandb", "wandb": {"project": "p"}}]
    job_id = asked(live, model=base, training_file=file_id, integrations=integrations).json()["id"]
    newest = live.mine.get(f"/v1/fine_tuning/jobs/{job_id}/events").json()["data"][0]
    assert (newest["level"], "nothing of this job is sent" in newest["message"]) == ("warn", True)


def test_a_retry_does_not_tell_of_integrations_again(live: Live, base, file_id):
    body = {"model": base, "training_file": file_id, "integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}
    key = {"Idempotency-Key": "told once"}
    first, again = (live.mine.post("/v1/fine_tuning/jobs", json=body, headers=key).json()["id"] for _ in range(2))
    events = live.mine.get(f"/v1/fine_tuning/jobs/{first}/events").json()["data"]
    assert (again, sum("integrations" in event["message"] for event in events)) == (first, 1)


def test_a_job_of_several_files_is_shown_beside_the_others(live: Live, base, file_id):
    text = {"kind": "pretrain", "mixture": [{"file": text_file(live.mine)}], "hyperparameters": {"max_steps": 5}}
    rows = {"kind": "sft", "model": base, "mixture": [{"file": file_id}], "hyperparameters": {"max_steps": 5}}
    ids = [live.mine.post("/v1/jobs", json=spec).json()["id"] for spec in (text, rows)]
    told = {job["id"]: job for job in live.mine.get("/v1/fine_tuning/jobs").json()["data"]}
    assert [told[job_id]["hyperparameters"]["learning_rate_multiplier"] for job_id in ids] == [pytest.approx(1.0)] * 2


def test_a_multiplier_is_of_what_goes_on_and_a_mistyped_field_beside_it_is_named(live: Live, base):
    text = text_file(live.mine)
    method = {"type": "pretrain", "pretrain": {"hyperparameters": {"learning_rate_multiplier": 1}}}
    shown = asked(live, continue_from=base, model=None, training_file=text, method=method)
    assert shown.json()["hyperparameters"]["learning_rate"] == pytest.approx(1e-4), shown.text
    method = {"type": "supervised", "supervised": {"hyperparameters": {"learning_rate_multiplier": 1}}}
    refused = asked(live, model=base, training_file=text, validation_fil=text, method=method)
    assert "did you mean 'validation_file'" in refused.text


def test_a_job_whose_spec_an_older_release_took_is_shown_and_can_be_stopped(live: Live, base, file_id):
    job_id = asked(live, model=base, training_file=file_id).json()["id"]
    with live.database.write() as session:
        job = session.get_one(Job, job_id)
        job.spec = refused_today(job.spec)
    assert live.mine.post("/v1/jobs", json=live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]).status_code == 422
    shown = live.mine.get("/v1/fine_tuning/jobs").json()["data"][0]
    assert (shown["id"], shown["hyperparameters"]["learning_rate_multiplier"]) == (job_id, pytest.approx(1.0))
    assert live.mine.get(f"/v1/jobs/{job_id}/config").json()["origins"] == {}
    assert live.mine.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").json()["status"] == "cancelled"


def refused_today(spec: dict[str, Any]) -> dict[str, Any]:
    """8-bit Adam under ZeRO was taken once, and failed as it ran."""
    resources = spec["resources"] | {"nproc_per_node": 2, "parallel": {"zero_stage": 2}}
    return spec | {"resources": resources, "hyperparameters": spec["hyperparameters"] | {"optim": "adamw_8bit"}}
