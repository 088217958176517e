"""Grading: the rows of eval runs, some at a time, so that the sweep that does it is soon on its way again."""

import io
from collections import Counter
from typing import Any, BinaryIO

import orjson

from db import evals, files
from db.blobs import BlobStore
from db.models import EvalRun
from db.session import Database, Session
from engine.graders import GRADER, Grader, GraderError, grade

_RUNS_AT_ONCE = 20
_ROWS_AT_ONCE = 200


def grade_some(database: Database, blobs: BlobStore) -> int:
    """Go on with every open run by some rows; how many rows that were.

    What is graded and how far the run has come are one transaction: a kill in between costs nothing.
    """
    with database.read() as s:
        waiting = evals.open_runs(s, _RUNS_AT_ONCE)
    done = 0
    for run_id in waiting:
        with database.write() as s:
            run = evals.lock(s, run_id)
            if run is not None:
                done += _go_on(s, blobs, run)
    return done


def _go_on(s: Session, blobs: BlobStore, run: EvalRun) -> int:
    source = _source(s, blobs, run)
    if source is None:
        evals.fail(s, run, "the file of the run was deleted")
        return 0
    criteria = [GRADER.validate_python(criterion) for criterion in run.definition["testing_criteria"]]
    tally = Counter(run.tally)
    graded: list[dict[str, Any]] = []
    with source:
        source.seek(run.offset_bytes)
        while len(graded) < _ROWS_AT_ONCE and (line := source.readline()):
            if line.strip():
                graded.append(_graded(orjson.loads(line), criteria, tally["rows"], tally))
        end, more = source.tell(), bool(source.read(1))
    state = "in_progress" if more else "completed"
    evals.advance(s, run, graded, state=state, offset_bytes=end, tally=dict(tally))
    return len(graded)


def _source(s: Session, blobs: BlobStore, run: EvalRun) -> BinaryIO | None:
    """The rows, a line each: of the file, or as they stood in the request."""
    source = run.definition["data_source"]["source"]
    if source["type"] == "file_content":
        return io.BytesIO(b"".join(orjson.dumps(row) + b"\n" for row in source["content"]))
    file = files.get(s, run.project_id, source["id"])
    return None if file is None or not blobs.exists(file.sha256) else blobs.open(file.sha256)


def _graded(row: dict[str, Any], criteria: list[Grader], number: int, tally: Counter[str]) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    errors: list[str] = []
    for criterion in criteria:
        try:
            score, passed = grade(criterion, {"sample": {}} | row)
        except GraderError as error:
            errors.append(f"{criterion.name}: {error}")
            score, passed = 0.0, False
        results.append({"name": criterion.name, "type": criterion.type, "score": score, "passed": passed})
        tally[f"{'passed' if passed else 'failed'} {criterion.name}"] += 1
    state = "error" if errors else "pass" if all(result["passed"] for result in results) else "fail"
    tally["rows"] += 1
    tally[state] += 1
    return {"number": number, "row": row, "results": {"results": results, "errors": errors}, "state": state}
