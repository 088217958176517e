"""Models that grade and models that are graded: real ones, at a real desk."""

from collections.abc import Iterator
from typing import Any

import pytest

from db.errors import Unavailable
from db.models import Artifact
from engine.graders import Reply, SamplingParams
from tests.integration.api.desk import at_the_desk, tiny_base
from tests.integration.api.live import Live, error
from tests.integration.api.test_evals import CHECK, EVAL, begun, graded, row
from workers import grading
from workers.asking import asker

INPUT = [{"role": "user", "content": "Is {{sample.output_text}} right?"}]
ROWS = [row(number) for number in range(3)]
CONTENT = {"type": "file_content", "content": ROWS}


@pytest.fixture(scope="module")
def base(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(live, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def desk(live: Live, base: Artifact) -> Iterator[None]:
    with at_the_desk(live):
        yield


def says(live: Live, content: str) -> str:
    """What the model answers at temperature 0."""
    body = {"model": "tiny", "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": content}]}
    return live.mine.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


def label(passing: list[str], labels: list[str]) -> dict[str, Any]:
    told = {"type": "label_model", "name": "judge", "model": "tiny", "input": INPUT, "labels": labels}
    return told | {"passing_labels": passing, "sampling_params": {"max_completion_tokens": 16}}


def labels_of(live: Live, content: str) -> list[str]:
    """Two labels, of which the model says the first."""
    return [says(live, content).strip(), "nothing of the kind"]


def graded_by_models(live: Live) -> None:
    socket = live.service.desk.socket
    while grading.grade_some(live.database, live.service.blobs, lambda of: asker(live.database, socket, of, 60)):
        pass


def shown(live: Live, run: dict[str, Any]) -> dict[str, Any]:
    return live.mine.get(f"/v1/evals/{run['eval_id']}/runs/{run['id']}").json()


def test_a_model_chooses_a_label(live: Live, desk):
    labels = labels_of(live, "Is 4 right?")
    for passing in labels:
        body = {"grader": label([passing], labels), "model_sample": "4", "item": {}}
        told = live.mine.post("/v1/fine_tuning/alpha/graders/run", json=body).json()
        assert told["reward"] == float(passing == labels[0]), told
        used = told["model_grader_token_usage_per_model"]["tiny"]
        assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"] > 0
        assert told["metadata"]["sampled_model_name"] == "tiny"


def test_an_answer_that_is_no_score_is_told_as_such(live: Live, desk):
    grader = {"type": "score_model", "name": "s", "model": "tiny", "input": INPUT, "range": [2.5, 2.6]}
    body = {"grader": grader, "model_sample": "4", "item": {}}
    told = live.mine.post("/v1/fine_tuning/alpha/graders/run", json=body).json()
    assert (told["reward"], told["metadata"]["errors"]["model_grader_parse_error"]) == (0.0, True)


def test_what_a_model_said_is_counted_though_it_is_no_grade(live: Live, desk):
    score = {"type": "score_model", "name": "s", "model": "tiny", "input": INPUT, "range": [2.5, 2.6]}
    score["sampling_params"] = {"max_completions_tokens": 4}
    both = {"type": "multi", "name": "both", "calculate_output": "a + s"}
    labels = labels_of(live, "Is 4 right?")
    both["graders"] = {"a": label(labels[:1], labels), "s": score}
    told = live.mine.post("/v1/fine_tuning/alpha/graders/run", json={"grader": both, "model_sample": "4"}).json()
    assert told["metadata"]["errors"]["model_grader_parse_error"]
    assert told["model_grader_token_usage_per_model"]["tiny"]["total_tokens"] == told["metadata"]["token_usage"] > 4
    eval_id = live.mine.post("/v1/evals", json=EVAL | {"testing_criteria": [both]}).json()["id"]
    sample = {"sample": {"output_text": "4"}}
    run = begun(live, eval_id, {"type": "file_content", "content": [row(4) | sample]}).json()
    graded_by_models(live)
    done = shown(live, run)
    assert done["result_counts"]["errored"] == 1
    (used,) = done["per_model_usage"]
    assert (used["invocation_count"], used["total_tokens"]) == (2, told["metadata"]["token_usage"])


def test_a_model_that_there_is_not_is_named(live: Live):
    grader = label(["a"], ["a"]) | {"model": "nobody"}
    told = error(live.mine.post("/v1/fine_tuning/alpha/graders/run", json={"grader": grader, "model_sample": ""}), 400)
    assert (told["code"], told["param"]) == ("model_not_found", "grader.model")
    told = error(live.mine.post("/v1/evals", json=EVAL | {"testing_criteria": [grader]}), 400)
    assert (told["code"], told["param"]) == ("model_not_found", "testing_criteria[0].model")


def test_a_run_is_graded_by_a_model(live: Live, desk):
    labels = labels_of(live, "Is 2 right?")
    criteria = [label(labels[:1], labels), CHECK | {"operation": "eq"}]
    eval_id = live.mine.post("/v1/evals", json=EVAL | {"testing_criteria": criteria}).json()["id"]
    run = begun(live, eval_id, {"type": "file_content", "content": [row(2)]}).json()
    graded(live)  # the sweep, which asks nobody
    assert shown(live, run)["status"] == "queued"
    graded_by_models(live)
    done = shown(live, run)
    assert (done["status"], done["result_counts"]["passed"]) == ("completed", 1)
    (used,) = done["per_model_usage"]
    assert (used["model_name"], used["invocation_count"]) == ("tiny", 1)
    assert used["total_tokens"] > used["completion_tokens"] > 0


def test_others_write_while_a_model_answers_and_a_row_without_a_grade_errs_alone(live: Live, desk):
    labels = labels_of(live, "Is 0 right?")
    body = EVAL | {"testing_criteria": [label(labels[:1], labels)]}
    run = begun(live, live.mine.post("/v1/evals", json=body).json()["id"], CONTENT).json()

    def asker_of(project_id: str):
        ask = asker(live.database, live.service.desk.socket, project_id, 60)

        def asking(*asked: Any):
            with live.database.write():
                return ask(*asked)

        return asking

    while grading.grade_some(live.database, live.service.blobs, asker_of):
        pass
    counts = shown(live, run)["result_counts"]
    assert counts["total"] == 3
    assert counts["passed"] >= 1
    assert counts["passed"] + counts["errored"] + counts["failed"] == 3


def test_a_model_answers_the_rows_of_a_run(live: Live, desk):
    content = "What is {{item.a}}?"
    answers = [says(live, content.replace("{{item.a}}", str(number))) for number in range(3)]
    rows = [{"item": {"a": str(number), "said": answers[number]}} for number in range(3)]
    check = CHECK | {"operation": "eq", "reference": "{{item.said}}"}
    eval_id = live.mine.post("/v1/evals", json=EVAL | {"testing_criteria": [check]}).json()["id"]
    source = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": content}]},
        "sampling_params": {"max_completion_tokens": 16},
    }
    run = live.mine.post(f"/v1/evals/{eval_id}/runs", json={"data_source": source}).json()
    graded_by_models(live)
    done = shown(live, run)
    assert (done["status"], done["model"], done["result_counts"]["passed"]) == ("completed", "tiny", 3)
    items = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}/output_items").json()["data"]
    assert [item["sample"]["output"][0]["content"] for item in items] == answers
    assert items[1]["sample"]["input"] == [{"role": "user", "content": "What is 1?"}]
    assert items[1]["sample"]["usage"]["total_tokens"] > 0
    assert items[1]["sample"]["max_completion_tokens"] == 16


def test_a_model_answers_to_its_end_unless_its_room_is_told(live: Live, desk):
    eval_id = live.mine.post("/v1/evals", json=EVAL).json()["id"]
    source = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": [{"item": {"a": "1"}}]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "?"}]},
    }
    run = live.mine.post(f"/v1/evals/{eval_id}/runs", json={"data_source": source}).json()
    asked: list[SamplingParams] = []

    def ask(_model: str, _messages: list[dict[str, str]], sampling: SamplingParams) -> Reply:
        asked.append(sampling)
        return Reply("1", 3, 300, "stop")

    while grading.grade_some(live.database, live.service.blobs, lambda _: ask):
        pass
    assert [sampling.max_completion_tokens for sampling in asked] == [None]
    (item,) = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}/output_items").json()["data"]
    assert (item["status"], item["sample"]["max_completion_tokens"]) == ("pass", 0)


def test_messages_may_stand_in_the_rows(live: Live, desk):
    messages = [{"role": "user", "content": "{{not a template}}"}]
    rows = [{"item": {"a": "1", "input": messages}}, {"item": {"a": "2", "input": "no list"}}]
    eval_id = live.mine.post("/v1/evals", json=EVAL).json()["id"]
    source = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
        "sampling_params": {"max_completion_tokens": 2},
    }
    run = live.mine.post(f"/v1/evals/{eval_id}/runs", json={"data_source": source}).json()
    graded_by_models(live)
    done = shown(live, run)
    assert (done["status"], done["result_counts"]["failed"], done["result_counts"]["errored"]) == ("completed", 1, 1)
    items = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}/output_items").json()["data"]
    assert items[0]["sample"]["input"] == messages
    assert "is no list of messages" in items[1]["sample"]["error"]["message"]


def test_a_run_waits_while_nobody_answers(live: Live, base: Artifact, tmp_path):
    body = EVAL | {"testing_criteria": [label(["a"], ["a"])]}
    run = begun(live, live.mine.post("/v1/evals", json=body).json()["id"], CONTENT).json()
    away = tmp_path / "desk.sock"
    with pytest.raises(Unavailable):
        grading.grade_some(live.database, live.service.blobs, lambda of: asker(live.database, away, of, 60))
    assert shown(live, run)["status"] == "queued"
    live.mine.post(f"/v1/evals/{run['eval_id']}/runs/{run['id']}/cancel")
