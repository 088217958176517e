"""Grading: the rows of eval runs, some at a time, so that the sweep that does it is soon on its way again."""

import codecs
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from db import evals, files
from db.blobs import BlobStore
from db.errors import Unavailable
from db.models import EvalRun
from db.session import Database, Session
from engine.graders import GRADER, Grader, GraderError, grade

_RUNS_AT_ONCE = 20
_ROWS_AT_ONCE = 200
_BUDGET_S = 1.0
_LOG = logging.getLogger(__name__)


def grade_some(database: Database, blobs: BlobStore) -> int:
    """Go on with open runs by some rows each, for about a second; how many rows that were.

    Raises db.errors.Unavailable when the database or the blobs cannot be reached; whatever else befalls a run fails it.
    """
    until = time.monotonic() + _BUDGET_S
    with database.read() as s:
        waiting = evals.open_runs(s, _RUNS_AT_ONCE)
    random.shuffle(waiting)  # a run of slow rows takes the whole time: each is the first in turn
    done = 0
    for run_id in waiting:
        done += _go_on(database, blobs, run_id, until)
        if time.monotonic() >= until:
            break
    return done


def _go_on(database: Database, blobs: BlobStore, run_id: str, until: float) -> int:
    try:
        return _grade_rows(database, blobs, run_id, until)
    except Unavailable:
        raise
    except FileNotFoundError:
        why = "the file of the run was deleted"
    except Exception as error:  # noqa: BLE001 - the edge: one run must not end the reaper, at every restart again
        _LOG.exception("eval run %s", run_id)
        why = f"grading broke off: {type(error).__name__}; the reaper's log tells more"
    with database.write() as s:
        run = evals.lock(s, run_id)
        if run is not None:
            evals.fail(s, run, f"{why} ({run.tally.get('rows', 0)} rows were graded before)")
    return 0


def _grade_rows(database: Database, blobs: BlobStore, run_id: str, until: float) -> int:
    """Grade the next rows, one at least; how many.

    No transaction is open meanwhile. The rows and how far the run has come are entered together, unless
    somebody else went on with the run or ended it: a kill costs nothing but the work of one sweep.
    """
    with database.read() as s:
        run = evals.open_run(s, run_id)
        if run is None:
            return 0
        size_bytes, chunks = _source(s, blobs, run)
    criteria = [GRADER.validate_python(criterion) for criterion in run.definition["testing_criteria"]]
    tally, end = Counter(run.tally), run.offset_bytes
    graded: list[dict[str, Any]] = []
    for line in _lines(chunks):
        row = line if end else line.removeprefix(codecs.BOM_UTF8)
        end += len(line)
        if row.strip():
            graded.append(_graded(orjson.loads(row), criteria, tally["rows"], tally))
        if len(graded) >= _ROWS_AT_ONCE or time.monotonic() >= until:
            break
    state = "in_progress" if end < size_bytes else "completed"
    with database.write() as s:
        found = evals.lock(s, run_id)
        if found is None or (found.state, found.offset_bytes) != (run.state, run.offset_bytes):
            return 0
        evals.advance(s, found, graded, state=state, offset_bytes=end, tally=dict(tally))
    return len(graded)


def _source(s: Session, blobs: BlobStore, run: EvalRun) -> tuple[int, Iterator[bytes]]:
    """The rows, a line each, of the file or as they stood in the request: their bytes in all, and those still to be read.

    Raises:
        FileNotFoundError: the file was deleted; where only its bytes are gone, on reading.
    """
    source = run.definition["data_source"]["source"]
    if source["type"] == "file_content":
        content = b"".join(orjson.dumps(row) + b"\n" for row in source["content"])
        return len(content), iter((content[run.offset_bytes :],))
    file = files.get(s, run.project_id, source["id"])
    if file is None:
        raise FileNotFoundError(source["id"])
    return file.size_bytes, blobs.chunks(file.sha256, range(run.offset_bytes, file.size_bytes))


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines with their ends; no more is read than they need."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


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
