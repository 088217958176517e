"""Grading: the rows of eval runs, some at a time, in threads beside the sweep of the reaper, which waits for no row."""

import codecs
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from db import evals, files
from db.blobs import BlobStore
from db.errors import Unavailable
from db.models import EvalRun
from db.session import Database, Session
from engine.graders import (
    GRADER,
    Ask,
    Grader,
    GraderError,
    Message,
    Reply,
    SamplingParams,
    grade,
    keeping,
    said,
    sample_of,
    value,
)

_RUNS_AT_ONCE = 20
_ROWS_AT_ONCE = 200
_BUDGET_S = 1.0
_PAUSE_S = 0.5
_MESSAGES = TypeAdapter(list[Message])
_SAMPLED_BY = {"seed", "temperature", "top_p", "max_completion_tokens"}
_LOG = logging.getLogger(__name__)


AskerOf = Callable[[str], Ask]
"""For a project."""


class Grading(threading.Thread):
    """Goes on with the runs that ask models, or with all others: a row may take minutes, of either kind."""

    def __init__(self, database: Database, blobs: BlobStore, asker_of: AskerOf | None = None) -> None:
        super().__init__(name="grading by rules" if asker_of is None else "grading by models", daemon=True)
        self._grade = lambda: grade_some(database, blobs, asker_of)
        self._stopping = threading.Event()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; a row that is not done is done again."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                worked, away = self._grade(), False
            except Unavailable as error:
                if not away:
                    _LOG.warning("%s waits: %s", self.name, error)
                worked, away = 0, True
            except Exception:  # noqa: BLE001 - the edge: without its thread no run would be graded any more
                _LOG.exception("%s", self.name)
                worked = 0
            if not worked:
                self._stopping.wait(_PAUSE_S)


def start_grading(database: Database, blobs: BlobStore, asker_of: AskerOf) -> list[Grading]:
    """Two threads, of which neither waits for the other's rows."""
    threads = [Grading(database, blobs), Grading(database, blobs, asker_of)]
    for thread in threads:
        thread.start()
    return threads


def stop_grading(threads: Iterable[Grading]) -> None:
    for thread in threads:
        thread.stop()


def grade_some(database: Database, blobs: BlobStore, asker_of: AskerOf | None = None) -> int:
    """Go on with open runs by some rows each, for about a second; how many rows that were.

    With `asker_of` these are the runs that ask models, else all others. The row that is begun takes as long as it takes.
    Raises db.errors.Unavailable when the database or the blobs cannot be reached; whatever else befalls a run fails it.
    """
    until = time.monotonic() + _BUDGET_S
    with database.read() as s:
        waiting = evals.open_runs(s, _RUNS_AT_ONCE, asking=asker_of is not None)
    done = 0
    for run_id in waiting:  # one of slow rows takes the whole time; chance has put another first before long
        done += _go_on(database, blobs, run_id, until, asker_of)
        if time.monotonic() >= until:
            break
    return done


def _go_on(database: Database, blobs: BlobStore, run_id: str, until: float, asker_of: AskerOf | None) -> int:
    try:
        return _grade_rows(database, blobs, run_id, until, asker_of)
    except Unavailable:
        raise
    except FileNotFoundError:
        why = "the file of the run was deleted"
    except ValidationError as error:  # of an eval that was made when it was still taken
        why = f"a criterion cannot be graded: {error.errors()[0]['msg']}"
    except Exception as error:  # noqa: BLE001 - the edge: one run must not end the reaper, at every restart again
        _LOG.exception("eval run %s", run_id)
        why = f"grading broke off: {type(error).__name__}; the reaper's log tells more"
    with database.write() as s:
        run = evals.lock(s, run_id)
        if run is not None:
            evals.fail(s, run, f"{why} ({run.tally.get('rows', 0)} rows were graded before)")
    return 0


def _grade_rows(database: Database, blobs: BlobStore, run_id: str, until: float, asker_of: AskerOf | None) -> int:
    """Grade the next rows, one at least; how many.

    No transaction is open meanwhile. The rows and how far the run has come are entered together, unless
    somebody else went on with the run or ended it: a kill costs nothing but the work of one sweep.
    """
    with database.read() as s:
        run = evals.open_run(s, run_id)
        if run is None:
            return 0
        size_bytes, chunks = _source(s, blobs, run)
    rater = _Rater(run, None if asker_of is None else asker_of(run.project_id))
    tally, end = Counter(run.tally), run.offset_bytes
    graded: list[dict[str, Any]] = []
    for line in _lines(chunks):
        row = line if end else line.removeprefix(codecs.BOM_UTF8)
        end += len(line)
        if row.strip():
            graded.append(rater.graded(orjson.loads(row), tally))
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


class _Rater:
    """Has a row answered, where the run is of that kind, and graded by each criterion."""

    def __init__(self, run: EvalRun, ask: Ask | None) -> None:
        self._criteria: list[Grader] = [GRADER.validate_python(told) for told in run.definition["testing_criteria"]]
        self._source: dict[str, Any] = run.definition["data_source"]
        self._ask = ask

    def graded(self, row: dict[str, Any], tally: Counter[str]) -> dict[str, Any]:
        results: list[dict[str, Any]] = []
        errors: list[str] = []
        told: dict[str, Any] = {"results": results, "errors": errors}
        replies: list[tuple[str, Reply]] = []
        ask = None if self._ask is None else keeping(self._ask, replies)
        if self._source["type"] == "completions":
            assert ask is not None, "a run that asks is graded by who can"
            try:
                row, told["sampled"] = self._answered(row, ask)
            except GraderError as error:
                errors.append(f"{self._source['model']}: {error}")
        known = row | {"sample": _sample(row)}
        for criterion in self._criteria:
            score, passed = 0.0, False
            if not errors or "sampled" in told or self._source["type"] != "completions":
                try:
                    score, passed, _ = grade(criterion, known, ask)
                except GraderError as error:
                    errors.append(f"{criterion.name}: {error}")
            results.append({"name": criterion.name, "type": criterion.type, "score": score, "passed": passed})
            tally[f"{'passed' if passed else 'failed'} {criterion.name}"] += 1
        _count(replies, tally)
        state = "error" if errors else "pass" if all(result["passed"] for result in results) else "fail"
        number = tally["rows"]
        tally.update(("rows", state))
        return {"number": number, "row": row, "results": told, "state": state}

    def _answered(self, row: dict[str, Any], ask: Ask) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row with the model's answer as its sample, and what is told of that answer."""
        sampling = SamplingParams.model_validate(self._source["sampling_params"])
        messages = _messages(self._source["input_messages"], row)
        reply = ask(self._source["model"], messages, sampling)
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        return row | {"sample": {"output_text": reply.text}}, {
            "input": messages,
            "model": self._source["model"],
            "finish_reason": reply.finish_reason,
            "usage": usage | {"total_tokens": sum(usage.values()), "cached_tokens": 0},
        } | sampling.model_dump(include=_SAMPLED_BY, exclude_none=True)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """What templates know of the answer, be it a model's or the row's own; the row is kept without what is read from it."""
    given = row.get("sample") or {}
    text = given.get("output_text")
    return sample_of(text) | given if isinstance(text, str) else given


def _messages(told: dict[str, Any], row: dict[str, Any]) -> list[dict[str, str]]:
    """Those of the template, or those that stand in the row, in which no values are put."""
    if told["type"] == "template":
        return said(_MESSAGES.validate_python(told["template"]), row)
    try:
        return said(_MESSAGES.validate_python(value(told["item_reference"], row)))
    except ValidationError as error:
        raise GraderError(f"{told['item_reference']} of the row is no list of messages") from error


def _count(replies: Iterable[tuple[str, Reply]], tally: Counter[str]) -> None:
    for model, reply in replies:
        tally[f"{evals.ASKED}{model}"] += 1
        tally[f"{evals.PROMPT}{model}"] += reply.prompt_tokens
        tally[f"{evals.COMPLETION}{model}"] += reply.completion_tokens
