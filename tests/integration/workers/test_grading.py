"""Grading beside the reaper's sweep: neither ends the other, nor waits for it."""

import json
import threading
from typing import Any

import pytest

from db import evals
from engine.graders import Graded
from tests.integration.workers.test_recover import change, lose, reaping
from tests.integration.workers.workplace import Workplace, wait_until
from workers import grading

CHECK = {"type": "string_check", "name": "a", "input": "a", "reference": "a", "operation": "eq"}


def begin_run(workplace: Workplace) -> str:
    source = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}
    with workplace.database.write() as s:
        made = evals.add(s, workplace.project_id, "eval", {})
        return evals.add_run(s, made, "run", {"data_source": source, "testing_criteria": [CHECK]}).id


def test_a_batch_of_large_rows_ends_early(workplace: Workplace) -> None:
    row = json.dumps({"item": {"text": "x" * (4 << 20)}}) + "\n"
    source = {"type": "jsonl", "source": {"type": "file_id", "id": workplace.upload(row * 5)}}
    with workplace.database.write() as s:
        made = evals.add(s, workplace.project_id, "eval", {})
        evals.add_run(s, made, "run", {"data_source": source, "testing_criteria": [CHECK]})
    assert 1 <= grading.grade_some(workplace.database, workplace.blobs) <= 3


def is_open(workplace: Workplace, run_id: str) -> bool:
    with workplace.database.read() as s:
        return evals.open_run(s, run_id) is not None


def test_rows_that_take_long_hold_up_no_lease(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    change(workplace, backoff_s=0.0)
    begun, over = threading.Event(), threading.Event()

    def slow(*_: Any) -> Graded:
        begun.set()
        over.wait(20)
        return Graded(1.0, passed=True)

    monkeypatch.setattr(grading, "grade", slow)
    begin_run(workplace)
    with reaping(workplace):
        try:
            assert begun.wait(10)
            job_id = workplace.submit_tiny()
            lose(workplace, job_id)
            workplace.wait(job_id, "queued", timeout_s=10)
        finally:
            over.set()


def test_grading_goes_on_after_what_nobody_foresaw(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = begin_run(workplace)
    looked = evals.open_runs

    def breaks_once(*_: Any, **__: Any) -> list[str]:
        monkeypatch.setattr(evals, "open_runs", looked)
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(evals, "open_runs", breaks_once)
    thread = grading.Grading(workplace.database, workplace.blobs)
    thread.start()
    try:
        wait_until(lambda: not is_open(workplace, run_id), "the run is graded", 10)
    finally:
        thread.stop()
