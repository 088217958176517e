"""Evals over HTTP, graded by the reaper's own code: in steps, from where it stopped, and each row once."""

import hashlib
import json
from typing import Any

import httpx
import pytest

from db import evals, paging
from db.blobs import CHUNK_BYTES
from engine.graders import Graded, grade
from tests.integration.api.live import Live, upload
from workers import grading

CHECK = {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "{{item.a}}"}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
    "evaluation_metric": "fuzzy_match",
}
EVAL: dict[str, Any] = {
    "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
    "testing_criteria": [CHECK | {"operation": "eq"}],
}


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"item": {"a": str(number)}, "sample": {"output_text": str(number - number % 2)}} | changes


@pytest.fixture(scope="module")
def eval_id(live: Live) -> str:
    return live.mine.post("/v1/evals", json=EVAL).json()["id"]


def begun(live: Live, eval_id: str, source: dict[str, Any]) -> httpx.Response:
    return live.mine.post(f"/v1/evals/{eval_id}/runs", json={"data_source": {"type": "jsonl", "source": source}})


def graded(live: Live) -> None:
    while grading.grade_some(live.database, live.service.blobs):
        pass


def test_a_long_file_is_graded_in_steps_and_each_row_once(live: Live, eval_id, monkeypatch):
    monkeypatch.setattr(grading, "_ROWS_AT_ONCE", 7)
    rows = b"\n\n".join(json.dumps(row(n)).encode() for n in range(50))
    file_id = upload(live.mine, rows, "evals").json()["id"]
    run = begun(live, eval_id, {"type": "file_id", "id": file_id}).json()
    assert grading.grade_some(live.database, live.service.blobs) == 7
    url = f"/v1/evals/{eval_id}/runs/{run['id']}"
    assert live.mine.get(url).json()["status"] == "in_progress"
    graded(live)
    done = live.mine.get(url).json()
    assert (done["status"], done["result_counts"]) == (
        "completed",
        {"total": 50, "passed": 25, "failed": 25, "errored": 0},
    )
    items = live.mine.get(f"{url}/output_items", params={"limit": 100}).json()["data"]
    assert [item["datasource_item"]["a"] for item in items] == [str(n) for n in range(50)]


def test_a_file_with_a_byte_order_mark_is_graded_from_its_first_row(live: Live, eval_id):
    rows = b"\n".join(json.dumps(row(n)).encode() for n in range(3))
    file_id = upload(live.mine, b"\xef\xbb\xbf" + rows, "evals").json()["id"]
    run = begun(live, eval_id, {"type": "file_id", "id": file_id}).json()
    graded(live)
    done = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()
    assert (done["status"], done["result_counts"]["total"]) == ("completed", 3)


def test_a_line_longer_than_what_is_read_at_once_is_one_row(live: Live, eval_id):
    rows = [row(0), row(2) | {"item": {"a": "2", "pad": "x" * (2 * CHUNK_BYTES)}}, row(4)]
    file_id = upload(live.mine, b"\n".join(json.dumps(row).encode() for row in rows), "evals").json()["id"]
    run = begun(live, eval_id, {"type": "file_id", "id": file_id}).json()
    graded(live)
    assert live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()["result_counts"]["passed"] == 3


def test_a_run_that_cannot_be_graded_fails_and_the_others_go_on(live: Live, eval_id):
    content = json.dumps(row(41)).encode()
    file_id = upload(live.mine, content, "evals").json()["id"]
    blob = live.service.blobs.path(hashlib.sha256(content).hexdigest())
    blob.chmod(0o644)
    blob.write_bytes(b"?" * len(content))
    broken = begun(live, eval_id, {"type": "file_id", "id": file_id}).json()
    sound = begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()
    graded(live)
    runs = [live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json() for run in (broken, sound)]
    assert [run["status"] for run in runs] == ["failed", "completed"]
    assert "JSONDecodeError" in runs[0]["error"]["message"]


def test_others_write_while_rows_are_graded(live: Live, eval_id, monkeypatch):
    def writing(*asked: Any) -> Graded:
        with live.database.write():
            return grade(*asked)

    monkeypatch.setattr(grading, "grade", writing)
    run = begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()
    graded(live)
    assert live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()["status"] == "completed"


def test_rows_that_another_graded_meanwhile_are_entered_once(live: Live, eval_id, monkeypatch):
    def overtaken(*asked: Any) -> Graded:
        monkeypatch.setattr(grading, "grade", grade)
        graded(live)
        return grade(*asked)

    monkeypatch.setattr(grading, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(grading, "grade", overtaken)
    run = begun(live, eval_id, {"type": "file_content", "content": [row(n) for n in range(5)]}).json()
    graded(live)
    done = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()
    assert (done["status"], done["result_counts"]["total"]) == ("completed", 5)


def test_a_sweep_whose_time_is_over_grades_one_row(live: Live, eval_id, monkeypatch):
    monkeypatch.setattr(grading, "_BUDGET_S", 0.0)
    for _ in range(2):
        begun(live, eval_id, {"type": "file_content", "content": [row(n) for n in range(3)]})
    assert grading.grade_some(live.database, live.service.blobs) == 1
    graded(live)


def test_a_row_that_lacks_a_variable_is_an_error_and_the_others_are_graded(live: Live, eval_id):
    run = begun(live, eval_id, {"type": "file_content", "content": [row(2), {"item": {}}]}).json()
    graded(live)
    url = f"/v1/evals/{eval_id}/runs/{run['id']}"
    assert live.mine.get(url).json()["result_counts"] == {"total": 2, "passed": 1, "failed": 0, "errored": 1}
    (item,) = live.mine.get(f"{url}/output_items", params={"status": "error"}).json()["data"]
    assert "sample.output_text" in item["sample"]["error"]["message"]


@pytest.mark.parametrize("path", ["", "/cancel"])
def test_a_cancelled_run_is_graded_no_further(live: Live, eval_id, path):
    run = begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()
    url = f"/v1/evals/{eval_id}/runs/{run['id']}"
    assert live.mine.post(url + path).json()["status"] == "canceled"
    graded(live)
    assert live.mine.get(url).json()["result_counts"]["total"] == 0


def test_a_run_whose_file_is_deleted_fails_and_says_why(live: Live, eval_id):
    file_id = upload(live.mine, json.dumps(row(1)).encode(), "evals").json()["id"]
    run = begun(live, eval_id, {"type": "file_id", "id": file_id}).json()
    live.mine.delete(f"/v1/files/{file_id}")
    graded(live)
    shown = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()
    assert (shown["status"], "deleted" in shown["error"]["message"]) == ("failed", True)


def test_a_run_takes_items_and_no_other_rows(live: Live, eval_id):
    answer = begun(live, eval_id, {"type": "file_id", "id": upload(live.mine).json()["id"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_file_format")


@pytest.mark.parametrize("item_id", ["outputitem-" + "9" * 30, "9" * 5000, "outputitem-", "outputitem-7"])
def test_an_item_that_is_none_is_not_found(live: Live, eval_id, item_id):
    run = begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()
    answer = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}/output_items/{item_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "output_item_not_found")


def test_an_answer_that_nests_too_deep_has_no_json(live: Live):
    grader = CHECK | {"operation": "eq", "input": "{{sample.output_json}}", "reference": "1"}
    told = {"grader": grader, "model_sample": "[" * 1000 + "]" * 1000}
    answer = live.mine.post("/v1/fine_tuning/alpha/graders/run", json=told)
    errors = answer.json()["metadata"]["errors"]
    assert (errors["invalid_variable_error"], errors["message"]) == (True, "the row has no 'sample.output_json'")


@pytest.mark.parametrize("sample", [{"output_text": '{"a": 2}'}, {"output_text": "", "output_json": {"a": 2}}])
def test_what_an_answer_says_in_json_is_known_to_a_run(live: Live, sample):
    check = CHECK | {"operation": "eq", "input": "{{sample.output_json.a}}"}
    eval_id = live.mine.post("/v1/evals", json=EVAL | {"testing_criteria": [check]}).json()["id"]
    run = begun(live, eval_id, {"type": "file_content", "content": [row(2, sample=sample)]}).json()
    graded(live)
    shown = live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").json()
    assert shown["result_counts"] == {"total": 1, "passed": 1, "failed": 0, "errored": 0}


@pytest.mark.parametrize("stored", ["schema", "item_schema"])
def test_the_schema_of_an_eval_is_that_of_a_whole_row(live: Live, stored):
    item = {"type": "object", "properties": {"a": {"type": "string"}}}
    definition = {"testing_criteria": [], "metadata": {}, "data_source_config": {"type": "custom", stored: item}}
    with live.database.write() as session:
        eval_id = evals.add(session, live.project_id, "", definition).id
    config = live.mine.get(f"/v1/evals/{eval_id}").json()["data_source_config"]
    schema = {"type": "object", "properties": {"item": item}, "required": ["item"]}
    assert config == {"type": "custom", "schema": schema}


@pytest.mark.parametrize("included", [False, True])
def test_the_schema_tells_of_the_sample_where_that_is_asked_for(live: Live, included):
    config = EVAL["data_source_config"] | {"include_sample_schema": included}
    made = live.mine.post("/v1/evals", json=EVAL | {"data_source_config": config}).json()
    properties = made["data_source_config"]["schema"]["properties"]
    assert properties["item"] == {"type": "object"}
    assert ("output_text" in properties.get("sample", {}).get("properties", {})) is included
    assert live.mine.get(f"/v1/evals/{made['id']}").json() == made


def test_an_eval_of_before_with_a_criterion_that_is_refused_now_is_told_as_such(live: Live):
    criterion = ALIKE | {"evaluation_metric": "cosine", "pass_threshold": 0.5}
    definition = EVAL | {"testing_criteria": [criterion], "metadata": {}}
    source = {"type": "file_content", "content": [row(1)]}
    with live.database.write() as session:
        made = evals.add(session, live.project_id, "", definition)
        run = evals.add_run(session, made, "", definition | {"data_source": {"type": "jsonl", "source": source}})
    answer = begun(live, made.id, source)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "criterion_not_graded")
    graded(live)
    shown = live.mine.get(f"/v1/evals/{made.id}/runs/{run.id}").json()
    assert (shown["status"], "'cosine' is not computed here" in shown["error"]["message"]) == ("failed", True)


def test_evals_are_listed_by_their_last_change_where_that_is_asked_for(live: Live):
    first, second = (live.theirs.post("/v1/evals", json=EVAL).json()["id"] for _ in range(2))
    live.theirs.post(f"/v1/evals/{first}", json={"name": "changed"})
    page = live.theirs.get("/v1/evals", params={"order_by": "updated_at", "limit": 1}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([second], True)
    rest = live.theirs.get("/v1/evals", params={"order_by": "updated_at", "after": second}).json()
    assert [one["id"] for one in rest["data"]] == [first]
    made = live.theirs.get("/v1/evals", params={"order_by": "created_at"}).json()
    assert [one["id"] for one in made["data"]] == [first, second]
    answer = live.mine.get("/v1/evals", params={"order_by": "updated_at", "after": first})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "eval_not_found")


def test_a_deleted_eval_takes_its_runs_along(live: Live):
    eval_id = live.mine.post("/v1/evals", json=EVAL).json()["id"]
    run = begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()
    assert live.mine.delete(f"/v1/evals/{eval_id}").json()["eval_id"] == eval_id
    assert live.mine.get(f"/v1/evals/{eval_id}/runs/{run['id']}").status_code == 404
    with live.database.read() as session:
        assert run["id"] not in evals.open_runs(session, 1000, asking=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"testing_criteria": []},
        {"testing_criteria": [CHECK | {"operation": "eq"}] * 2},
        {"testing_criteria": [CHECK]},
        {"testing_criteria": [ALIKE]},
        {"testing_criteria": [ALIKE | {"evaluation_metric": "meteor", "pass_threshold": 0.5}]},
        {"testing_criteria": [{"type": "multi", "name": "m", "graders": {"a": ALIKE}, "calculate_output": "a"}]},
        {"data_source_config": {"type": "logs"}},
        {"nam": "x"},
    ],
)
def test_an_eval_that_is_none_is_refused(live: Live, changes):
    assert live.mine.post("/v1/evals", json=EVAL | changes).status_code == 422


def all_of(live: Live, path: str, **params: Any) -> tuple[list[str], int]:
    """The ids of a whole listing, and its number of pages."""
    listed, pages, has_more = list[str](), 0, True
    while has_more:
        page = live.mine.get(path, params=params | ({"after": listed[-1]} if listed else {})).json()
        listed += [each["id"] for each in page["data"]]
        pages, has_more = pages + 1, page["has_more"]
    return listed, pages


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_ends_early_where_its_objects_are_large_and_the_next_goes_on(live: Live, eval_id, monkeypatch, order):
    content = [row(n) | {"item": {"a": "x" * 1000}} for n in range(5)]
    run = begun(live, eval_id, {"type": "file_content", "content": content}).json()
    graded(live)
    for number in range(3):
        live.mine.post("/v1/evals", json=EVAL | {"name": f"{number}" * 200})
    paths = [
        ("/v1/evals", {"order_by": "created_at"}),
        ("/v1/evals", {"order_by": "updated_at"}),
        (f"/v1/evals/{eval_id}/runs", {}),
        (f"/v1/evals/{eval_id}/runs/{run['id']}/output_items", {}),
    ]
    whole = [all_of(live, path, order=order, limit=100, **params) for path, params in paths]
    monkeypatch.setattr(paging, "_MOST_STORED_CHARACTERS", 1)
    assert [all_of(live, path, order=order, limit=100, **params) for path, params in paths] == [
        (listed, len(listed)) for listed, _ in whole
    ]
    assert [pages for _, pages in whole] == [1] * len(paths)
