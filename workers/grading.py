"""Grading, in threads of the reaper: the rows of runs of OpenAI's evals API (/v1/evals), not jobs of kind `eval`."""

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
    filled_messages,
    grade,
    keeping,
    sample_of,
    value,
)

_RUNS_AT_ONCE = 20
_ROWS_AT_ONCE = 200
_BYTES_AT_ONCE = 8 << 20
"""The rows of a batch are written in one transaction, and a row may be of some MiB."""
_BUDGET_S = 1.0
_PAUSE_S = 0.5
_MESSAGES = TypeAdapter(list[Message])
_SAMPLED_BY = {"seed", "temperature", "top_p", "max_completion_tokens"}
_LOG = logging.getLogger(__name__)


AskerOf = Callable[[str], Ask]
"""Returns the function that asks the models of a project."""


class Grading(threading.Thread):
    """Grades the runs that ask models, or all others: a thread for each, since a row of either may take minutes."""

    def __init__(self, database: Database, blobs: BlobStore, asker_of: AskerOf | None = None) -> None:
        super().__init__(name="grading by rules" if asker_of is None else "grading by models", daemon=True)
        self._grade = lambda: grade_some(database, blobs, asker_of)
        self._stopping = threading.Event()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; a row that is not finished is graded again later."""
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
            except Exception:  # noqa: BLE001 - the edge: without this thread no run would be graded
                _LOG.exception("%s", self.name)
                worked = 0
            if not worked:
                self._stopping.wait(_PAUSE_S)


def start_grading(database: Database, blobs: BlobStore, asker_of: AskerOf) -> list[Grading]:
    """Start the two threads; neither waits for the rows of the other."""
    threads = [Grading(database, blobs), Grading(database, blobs, asker_of)]
    for thread in threads:
        thread.start()
    return threads


def stop_grading(threads: Iterable[Grading]) -> None:
    for thread in threads:
        thread.stop()


def grade_some(database: Database, blobs: BlobStore, asker_of: AskerOf | None = None) -> int:
    """Grade some rows of each of the open runs, for about a second, and return how many rows.

    With `asker_of` these are the runs that ask models, else all others. A row that is begun is finished, whatever it
    takes. Raises db.errors.Unavailable when the database or the blobs cannot be reached; any other error fails the run.
    """
    until = time.monotonic() + _BUDGET_S
    with database.read() as s:
        waiting = evals.open_runs(s, _RUNS_AT_ONCE, asking=asker_of is not None)
    done = 0
    for run_id in waiting:  # a run with slow rows may take the whole time; the order of the runs is random
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
    except ValidationError as error:  # the eval was made when its criterion was still accepted
        why = f"a criterion cannot be graded: {error.errors()[0]['msg']}"
    except Exception as error:  # noqa: BLE001 - the edge: one run must not end the reaper, at every restart again
        _LOG.exception("eval run %s", run_id)
        why = f"grading failed: {type(error).__name__}; the reaper's log has the details"
    with database.write() as s:
        run = evals.lock(s, run_id)
        if run is not None:
            evals.fail(s, run, f"{why} ({run.tally.get('rows', 0)} rows were graded before)")
    return 0


def _grade_rows(database: Database, blobs: BlobStore, run_id: str, until: float, asker_of: AskerOf | None) -> int:
    """Grade the next rows, at least one, and return how many.

    No transaction is open meanwhile. The rows and the run's offset are written together, unless another process has
    continued or ended the run: a kill costs only the work of one batch.
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
        full = len(graded) >= _ROWS_AT_ONCE or end - run.offset_bytes >= _BYTES_AT_ONCE
        if full or time.monotonic() >= until:
            break
    state = "in_progress" if end < size_bytes else "completed"
    with database.write() as s:
        found = evals.lock(s, run_id)
        if found is None or (found.state, found.offset_bytes) != (run.state, run.offset_bytes):
            return 0
        evals.advance(s, found, graded, state=state, offset_bytes=end, tally=dict(tally))
    return len(graded)


def _source(s: Session, blobs: BlobStore, run: EvalRun) -> tuple[int, Iterator[bytes]]:
    """Return the size in bytes of the run's rows, which are lines of JSON, and the chunks that are still to be read.

    The rows are those of a file, or those that the request contained.

    Raises:
        FileNotFoundError: the file was deleted; raised on reading where only its bytes are gone.
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
    """Yield the lines with their newlines; no more chunks are read than they need."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


class _Rater:
    """Grades a row by each criterion; for a run that asks a model, the model answers the row first."""

    def __init__(self, run: EvalRun, ask: Ask | None) -> None:
        self._criteria: list[Grader] = [GRADER.validate_python(each) for each in run.definition["testing_criteria"]]
        self._source: dict[str, Any] = run.definition["data_source"]
        self._ask = ask

    def graded(self, row: dict[str, Any], tally: Counter[str]) -> dict[str, Any]:
        results: list[dict[str, Any]] = []
        errors: list[str] = []
        outcome: dict[str, Any] = {"results": results, "errors": errors}
        replies: list[tuple[str, Reply]] = []
        ask = None if self._ask is None else keeping(self._ask, replies)
        if self._source["type"] == "completions":
            assert ask is not None, "a run that asks a model needs an asker"
            try:
                row, outcome["sampled"] = self._answered(row, ask)
            except GraderError as error:
                errors.append(f"{self._source['model']}: {error}")
        known = row | {"sample": _sample(row)}
        for criterion in self._criteria:
            score, passed = 0.0, False
            if not errors or "sampled" in outcome or self._source["type"] != "completions":
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
        return {"number": number, "row": row, "results": outcome, "state": state}

    def _answered(self, row: dict[str, Any], ask: Ask) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the row with the model's answer as its sample, and the facts about that answer."""
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
    """Return the answer, the model's or the row's own, with the values that templates may refer to."""
    given = row.get("sample") or {}
    text = given.get("output_text")
    return sample_of(text) | given if isinstance(text, str) else given


def _messages(source: dict[str, Any], row: dict[str, Any]) -> list[dict[str, str]]:
    """Return the messages of the template with the row's values, or those of the row, unchanged."""
    if source["type"] == "template":
        return filled_messages(_MESSAGES.validate_python(source["template"]), row)
    try:
        return filled_messages(_MESSAGES.validate_python(value(source["item_reference"], row)))
    except ValidationError as error:
        raise GraderError(f"{source['item_reference']} of the row is no list of messages") from error


def _count(replies: Iterable[tuple[str, Reply]], tally: Counter[str]) -> None:
    for model, reply in replies:
        tally[f"{evals.ASKED}{model}"] += 1
        tally[f"{evals.PROMPT}{model}"] += reply.prompt_tokens
        tally[f"{evals.COMPLETION}{model}"] += reply.completion_tokens
