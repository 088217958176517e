"""Previews over HTTP: a real desk, a real engine."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import runs
from tests.integration.api.desk import at_the_desk, tiny_base
from tests.integration.api.live import Live, upload
from workers import stage
from workers.desk import Desk


def rows_file(live: Live, rows: list[dict]) -> str:
    return upload(live.mine, "".join(json.dumps(row) + "\n" for row in rows).encode()).json()["id"]


@pytest.fixture(scope="module")
def desk(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    tiny_base(live, tmp_path_factory.mktemp("base"))
    with at_the_desk(live) as running:
        yield running


def spec(live: Live, **changes) -> dict:
    return {"kind": "sft", "model": "tiny", "training_file": rows_file(live, runs.answers(30)), **changes}


def test_a_row_is_shown_token_by_token(live: Live, desk):
    answer = live.mine.post("/v1/preview", json={"spec": spec(live), "limit": 2, "statistics": True})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    document = told["rows"][0]["documents"][0]
    assert len(document["ids"]) == len(document["pieces"]) == len(document["trained"])
    trained = [piece for piece, label in zip(document["pieces"], document["trained"], strict=True) if label]
    assert "".join(trained) == runs.answers(30)[document["line"] - 1]["completion"] + "<|endoftext|>"
    assert told["spec"]["hyperparameters"]["per_device_train_batch_size"] == 8
    assert sum(told["statistics"][0]["lengths"]["counts"]) == told["statistics"][0]["rows"] == 28


def test_a_step_is_shown_as_packed(live: Live, desk):
    asked = {"spec": spec(live, hyperparameters={"max_length": 64}), "step": 1}
    step = live.mine.post("/v1/preview", json=asked).json()["step"]
    assert max(len(row["documents"]) for batch in step["batches"] for row in batch["rows"]) > 1


def test_pairs_are_shown_side_by_side(live: Live, desk):
    file_id = rows_file(live, runs.pairs(5))
    asked = {"spec": {"kind": "dpo", "model": "tiny", "training_file": file_id}, "lines": [2]}
    (row,) = live.mine.post("/v1/preview", json=asked).json()["rows"]
    assert [document["answer"] for document in row["documents"]] == ["chosen", "rejected"]


def test_rows_that_cannot_be_trained_on_are_a_422_with_the_engines_words(live: Live, desk):
    asked = {"spec": spec(live, hyperparameters={"max_length": 8, "long_rows": "drop"})}
    answer = live.mine.post("/v1/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_trained_token")
    assert "max_length 8" in answer.json()["error"]["message"]


def test_a_job_that_trains_nothing_has_no_preview(live: Live, desk):
    file_id = upload(live.mine, purpose="evals").json()["id"]
    asked = {"spec": {"kind": "eval", "model": "tiny", "eval_file": file_id}}
    answer = live.mine.post("/v1/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "nothing_trained")


def test_after_a_kill_the_next_question_has_its_answer(live: Live, desk: Desk):
    asked = {"spec": spec(live)}
    assert live.mine.post("/v1/preview", json=asked).status_code == 200
    pid = desk.engines["preview"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert live.mine.post("/v1/preview", json=asked).status_code == 200


def test_a_blob_store_that_is_away_is_told_and_so_is_its_return(live: Live, desk: Desk):
    asked = {"spec": spec(live)}
    root = live.service.blobs.root
    root.rename(root.with_name("unmounted"))
    try:
        answer = live.mine.post("/v1/preview", json=asked)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        root.with_name("unmounted").rename(root)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_away"), answer.text
    assert answer.headers["retry-after"] == "5"
    assert live.mine.post("/v1/preview", json=asked).status_code == 200


def test_a_full_disk_of_the_workers_is_a_507_and_leaves_nothing_half(
    live: Live, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    folder = live.service.desk.socket.parent / "desk"
    before = set(folder.iterdir())

    def without_room(_planned: object, _blobs: object, run_dir: Path) -> None:
        run_dir.mkdir()
        Path("/dev/full").write_text("what the question is about")

    with monkeypatch.context() as full:
        full.setattr(stage, "lay_out", without_room)
        asked = {"spec": spec(live)}
        answer = live.mine.post("/v1/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "low_space"), answer.text
    assert answer.headers["retry-after"] == "30"
    assert set(folder.iterdir()) == before
    assert live.mine.post("/v1/preview", json=asked).status_code == 200
