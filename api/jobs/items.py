"""The scores of single rows of an evaluation, read page by page from the file that the job left."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Literal

from api.answers import Series
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError
from api.jobs.schemas import ScoredRow
from api.jobs.service import find
from db import files
from db.models import File, Job

Only = Literal["worse", "better", "wrong"]
_Item = dict[str, Any]


def items(
    service: Service, caller: Caller, job_id: str, *, after: int, limit: int, only: Only | None
) -> Series[ScoredRow]:
    """Return a page of the scored rows in their order, or only of those that `only` selects.

    Raises:
        ApiError: 404 when there is no such job, or it has left no scores of single rows.
    """
    with service.database.read() as session:
        job = find(session, caller, job_id)
        made = [files.get(session, job.project_id, file_id) for file_id in (job.result or {}).get("files", [])]
        source = files.get(session, job.project_id, str(job.spec.get("eval_file", "")))
    left = next((file for file in made if file is not None and file.format == "items"), None)
    if left is None:
        raise ApiError(404, "items_not_found", _why_none(job))
    with service.blobs.open(left.sha256) as lines:
        wanted = islice(_numbered(lines, after, only), limit + 1)
        page = list(wanted)
    rows = _rows(service, source, {item["line"] for _, item in page[:limit]})
    shown = [_shown(number, item, rows.get(item["line"])) for number, item in page[:limit]]
    ends = (shown[0].number, shown[-1].number) if shown else (None, None)
    return Series(data=shown, has_more=len(page) > limit, first_id=ends[0], last_id=ends[1])


def _why_none(job: Job) -> str:
    """Say why a job has no scores of single rows; the only file that an evaluation leaves holds them."""
    gone = (job.result or {}).get("files") if job.kind == "eval" else None
    if gone:
        return f"the scores of single rows of eval job {job.id} were in file {gone[0]}, which was deleted"
    return f"{job.kind} job {job.id} ({job.state}) has left no scores of single rows; succeeded eval jobs do"


def _numbered(lines: Iterable[bytes], after: int, only: Only | None) -> Iterator[tuple[int, _Item]]:
    """Yield the items after the first `after`, numbered from 1; those skipped are not parsed."""
    for number, line in islice(enumerate(lines, 1), after, None):
        item = json.loads(line)
        if only is None or _matches(only, item):
            yield number, item


def _matches(only: Only, item: _Item) -> bool:
    score = _score(item)
    if only == "wrong":
        return item.get("correct") is not None and score < 1
    rival = _score(item["compare_to"]) if "compare_to" in item else score
    return score < rival if only == "worse" else score > rival


def _score(item: _Item) -> float:
    """Return a score of which more is better: the share of gradings that were correct, or the negative loss."""
    correct = item.get("correct")
    if isinstance(correct, dict):
        return sum(correct.values()) / len(correct)
    if correct is not None:
        return float(correct)
    return -item["loss"] if item.get("loss") is not None else 0.0


def _rows(service: Service, source: File | None, lines: set[int]) -> dict[int, Any]:
    """Return the rows on these lines as they were uploaded, or none if the file has been deleted since."""
    if source is None or not lines:
        return {}
    with service.blobs.open(source.sha256) as file:
        return {number: _read(source, line) for number, line in _lines(file, lines)}


def _lines(file: BinaryIO, lines: set[int]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(islice(file, max(lines)), 1):
        if number in lines:
            yield number, line


def _read(source: File, line: bytes) -> Any:
    if source.format == "text":
        return {"text": line.decode(errors="replace").rstrip("\r\n")}
    return json.loads(line)


def _shown(number: int, item: _Item, row: Any) -> ScoredRow:
    scores = {name: value for name, value in item.items() if name not in {"line", "compare_to"}}
    rival = item.get("compare_to")
    compared = None if rival is None else {name: value for name, value in rival.items() if name != "line"}
    return ScoredRow(number=number, line=item["line"], row=row, scores=scores, compare_to=compared)
