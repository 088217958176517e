"""What the rows of a step lost, over HTTP."""

from pathlib import Path

import pytest

from db import artifacts
from db.artifacts import FileEntry
from engine.rowlog import RowLog, RowLoss
from tests.integration.api.live import Live, claimed, mixed_spec, started, stored, submitted, text_file


def save(live: Live, job_id: str, fence: int, log: RowLog) -> None:
    """A checkpoint of step 2."""
    entry = FileEntry("state/rows.bin", *stored(live, log.path.read_bytes()))
    with live.database.write() as session:
        assert artifacts.publish_checkpoint(
            session, job_id, fence, step=2, layout="model", files=[entry], metrics={}, lineage={}, keep=1
        )


@pytest.fixture
def job_id(live: Live, tmp_path: Path) -> str:
    """A running job with a checkpoint of step 2."""
    log = RowLog(tmp_path / "rows.bin", None)
    log.append(1, [RowLoss(7, 0.5, 3), RowLoss(8, 2.0, 4)])
    log.append(2, [RowLoss(9, 1.0, 5), RowLoss(3, float("nan"), 1), RowLoss(4, 1.5, 2)])
    made, fence = started(live)
    save(live, made, fence, log)
    return made


def test_the_rows_of_a_step_come_with_those_that_lost_most_first(live: Live, job_id: str):
    answer = live.mine.get(f"/v1/jobs/{job_id}/steps/2/rows")
    file_id = live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]["training_file"]
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "step.rows",
        "step": 2,
        "data": [
            {"file": file_id, "line": 3, "loss": None, "labels": 1},
            {"file": file_id, "line": 4, "loss": 1.5, "labels": 2},
            {"file": file_id, "line": 9, "loss": 1.0, "labels": 5},
        ],
    }


def test_the_rows_of_a_mixture_come_with_their_files(live: Live, tmp_path: Path):
    files = [text_file(live.mine), text_file(live.mine)]
    made = live.mine.post("/v1/jobs", json=mixed_spec(*files)).json()["id"]
    log = RowLog(tmp_path / "rows.bin", None)
    log.append(2, [RowLoss(7, 0.5, 3, file=0), RowLoss(7, 2.0, 4, file=1)])
    save(live, made, claimed(live, made), log)
    told = live.mine.get(f"/v1/jobs/{made}/steps/2/rows").json()["data"]
    assert [(row["file"], row["line"]) for row in told] == [(files[1], 7), (files[0], 7)]


def test_a_step_that_no_checkpoint_knows_yet_is_told_what_is_known(live: Live, job_id: str):
    answer = live.mine.get(f"/v1/jobs/{job_id}/steps/3/rows")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "step_not_found")
    assert "knows steps 1 to 2" in answer.json()["error"]["message"]


def test_a_job_without_checkpoints_knows_of_no_rows(live: Live):
    answer = live.mine.get(f"/v1/jobs/{submitted(live)}/steps/1/rows")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "step_not_found")


def test_another_project_sees_no_rows(live: Live, job_id: str):
    answer = live.theirs.get(f"/v1/jobs/{job_id}/steps/2/rows")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")
