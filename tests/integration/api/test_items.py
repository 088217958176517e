"""What an evaluation said of each row, over HTTP."""

import json
from typing import Any

import pytest

from db import files, leases
from db.state import JobState
from tests.integration.api.live import Live, claimed, error, published, stored, upload

ROWS = [{"prompt": f"{number} + 1?", "completion": str(number + 1)} for number in range(5)]


def item(line: int, correct: bool) -> dict[str, Any]:
    return {"line": line, "reference": str(line), "answer": "x", "correct": correct, "text": f"x{line}", "tokens": 2}


@pytest.fixture
def job_id(live: Live) -> str:
    """An evaluation of rows on lines 1, 3, 4, 5 and 6: the second line is empty."""
    published(live, "scored", {"model.safetensors": b"weights"})
    lines = [json.dumps(row) for row in ROWS]
    content = "\n".join([lines[0], "", *lines[1:]]) + "\n"
    file_id = upload(live.mine, content.encode(), "evals").json()["id"]
    asked = {"kind": "eval", "model": "scored", "eval_file": file_id, "evaluation": {"task": "generate"}}
    made = live.mine.post("/v1/jobs", json=asked).json()["id"]
    right = {1: (True, True), 3: (False, True), 4: (True, False), 5: (False, False), 6: (False, True)}
    told = [item(line, own) | {"compare_to": item(line, rival)} for line, (own, rival) in right.items()]
    sha256, size_bytes = stored(live, "".join(json.dumps(one) + "\n" for one in told).encode())
    fence = claimed(live, made)
    with live.database.write() as session:
        left = files.add(
            session, live.project_id, filename=f"{made}.jsonl", purpose="eval-results", size_bytes=size_bytes,
            sha256=sha256, format="items", row_count=5,
        )  # fmt: skip
        leases.settle(session, made, fence, state=JobState.SUCCEEDED, result={"metrics": {}, "files": [left.id]})
    return made


def page(live: Live, job_id: str, **query: Any) -> dict[str, Any]:
    answer = live.mine.get(f"/v1/jobs/{job_id}/items", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_scored_row_comes_with_what_was_asked_and_what_each_model_made_of_it(live: Live, job_id: str):
    second = page(live, job_id)["data"][1]
    assert (second["number"], second["line"], second["row"]) == (2, 3, ROWS[1])
    assert second["scores"] == {"reference": "3", "answer": "x", "correct": False, "text": "x3", "tokens": 2}
    assert second["compare_to"]["correct"] is True


def test_pages_follow_one_another_without_gap_or_double(live: Live, job_id: str):
    first = page(live, job_id, limit=3)
    second = page(live, job_id, limit=3, after=first["last_id"])
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [row["number"] for row in first["data"] + second["data"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("only", "lines"), [("worse", [3, 6]), ("better", [4]), ("wrong", [3, 5, 6])])
def test_only_rows_of_a_kind_are_told_and_keep_their_numbers(live: Live, job_id: str, only: str, lines: list[int]):
    assert [row["line"] for row in page(live, job_id, only=only)["data"]] == lines
    first = page(live, job_id, only=only, limit=1)
    assert first["has_more"] == (len(lines) > 1)
    assert [row["line"] for row in page(live, job_id, only=only, after=first["last_id"])["data"]] == lines[1:]


def test_scores_stay_when_the_file_of_the_rows_is_deleted(live: Live, job_id: str):
    spec = live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]
    assert live.mine.delete(f"/v1/files/{spec['eval_file']}").status_code == 200
    assert [(row["line"], row["row"]) for row in page(live, job_id, limit=1)["data"]] == [(1, None)]


def test_a_job_that_scored_no_rows_says_so(live: Live):
    made = published(live, "trained", {"model.safetensors": b"weights"}).job_id
    assert error(live.mine.get(f"/v1/jobs/{made}/items"), 404)["code"] == "items_not_found"
    assert error(live.mine.get("/v1/jobs/job-0/items"), 404)["code"] == "job_not_found"


def test_scores_whose_file_was_deleted_are_told_as_deleted(live: Live, job_id: str):
    (left,) = live.mine.get(f"/v1/jobs/{job_id}").json()["result_files"]
    assert live.mine.delete(f"/v1/files/{left}").status_code == 200
    refused = error(live.mine.get(f"/v1/jobs/{job_id}/items"), 404)
    told = f"the scores of single rows of eval job {job_id} were in file {left}, which was deleted"
    assert (refused["code"], refused["message"]) == ("items_not_found", told)


def test_another_project_sees_none_of_it(live: Live, job_id: str):
    assert error(live.theirs.get(f"/v1/jobs/{job_id}/items"), 404)["code"] == "job_not_found"
