"""Submissions on their way into the database: checked, pinned to what they start from, and stored as queued jobs."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

from api.auth import Caller
from api.errors import ApiError
from api.idempotency import once
from api.jobs.pins import pin, refused
from api.jobs.schemas import JobObject
from api.jobs.views import job_objects
from api.spend.service import require_room
from db import artifacts, audit, files, jobs, records
from db.idempotency import IdempotentRequest
from db.jobs import NewJob
from db.models import File
from db.session import Session
from engine.jobs import AnySpec, named_files

FindFile: TypeAlias = Callable[[str, str], File | None]
"""(project id, file id) -> the file."""
_TRIES = 10
"""How often jobs are prepared again because an artifact that they start from was deleted meanwhile."""


class Submission(NamedTuple):
    """A resolved spec with what is stored along with it.

    `request` is the request's log context, for the audit log and the trace; `ask` recognises a retry. `warnings`, by
    event type, become the first events of the job's log.
    """

    caller: Caller
    spec: AnySpec
    plan_id: str | None = None
    needed_bytes: int = 0
    request: Mapping[str, Any] = {}
    ask: IdempotentRequest | None = None
    warnings: Mapping[str, str] = {}
    price_per_hour: float | None = None

    @property
    def one_by_one(self) -> bool:
        """Whether it is stored apart from the rest of its group: its retry, or the last job of a budget, may be there."""
        return self.ask is not None or self.caller.limited


def prepare(session: Session, find_file: FindFile, submission: Submission) -> NewJob:
    """Return the job that a submission makes, once its files and artifacts are found to suit it.

    Raises:
        ApiError: 404 or 422, with the path in the spec as `param`.
    """
    caller, spec = submission.caller, submission.spec
    fields = spec.model_dump(mode="json")
    _require_files(find_file, caller.project_id, spec, fields)
    pinned = pin(session, caller.project_id, spec)
    return NewJob(
        caller.project_id,
        fields | pinned.fields,
        spec.kind,
        spec.resources.priority,
        None if pinned.base is None else pinned.base.id,
        submission.plan_id,
        key_id=caller.key_id,
        needed_bytes=submission.needed_bytes,
        traceparent=submission.request.get("traceparent"),
    )


def _require_files(find_file: FindFile, project_id: str, spec: AnySpec, fields: dict[str, Any]) -> None:
    """Raise ApiError unless every file that the spec names is there and has rows that its kind reads."""
    takes = spec.takes()
    for path, _, file_id in named_files(fields):
        file = find_file(project_id, file_id)
        if file is None:
            raise refused(404, path, "file_not_found", file_id, f"there is no file {file_id!r} in this project", None)
        if file.format not in takes:
            message = f"{file_id} has {file.format} rows; this {spec.kind} job takes {', '.join(takes)}"
            hint = f"upload a file of such rows with purpose {spec.PURPOSE!r}"
            raise refused(422, path, "wrong_file_format", file.format, message, hint)


def write(session: Session, submissions: Sequence[Submission]) -> list[JobObject | Exception]:
    """Store a group of submissions; where one is refused, its place in the list has the refusal."""
    together = iter(_store(session, [submission for submission in submissions if not submission.one_by_one]))
    return [_store_once(session, each) if each.one_by_one else next(together) for each in submissions]


def _store_once(session: Session, submission: Submission) -> JobObject | ApiError:
    """Store one submission, unless its request was answered before: then return that answer."""

    def make() -> JobObject:
        (stored,) = _store(session, [submission])
        if isinstance(stored, ApiError):
            raise stored
        return stored

    try:
        return once(session, submission.ask, JobObject, make)
    except ApiError as refusal:
        return refusal


def _store(session: Session, submissions: Sequence[Submission]) -> list[JobObject | ApiError]:
    prepared = _prepare_and_lock(session, submissions)
    accepted = [(each, new) for each, new in zip(submissions, prepared, strict=True) if isinstance(new, NewJob)]
    rows = jobs.create(session, [new for _, new in accepted])
    entries = [(each.request, row.id) for (each, _), row in zip(accepted, rows, strict=True)]
    audit.note_all(session, "job.create", entries)
    for (each, _), row in zip(accepted, rows, strict=True):
        for event_type, message in each.warnings.items():
            records.note(session, row.id, event_type, "warn", message)
    shown = iter(job_objects(session, rows, fresh=True))
    return [next(shown) if isinstance(new, NewJob) else new for new in prepared]


def _prepare_and_lock(session: Session, submissions: Sequence[Submission]) -> list[NewJob | ApiError]:
    """Prepare all jobs, with the artifacts that they start from locked until the transaction ends.

    Where one of those was deleted after it was found, all are prepared again: its name may mean another one now.
    """
    keep = cache(partial(files.keep, session))  # a sweep names the same files again and again
    for _ in range(_TRIES):
        prepared = [_prepared(session, keep, submission) for submission in submissions]
        if artifacts.hold(session, _artifact_ids(session, prepared)):
            return prepared
    return [_refused_unless_locked(session, _prepared(session, keep, submission)) for submission in submissions]


def _prepared(session: Session, keep: FindFile, submission: Submission) -> NewJob | ApiError:
    """Return the job, if there is room for it in the budget, or else the refusal of this submission alone."""
    try:
        require_room(session, submission.caller, submission.price_per_hour, jobs=1)
        return prepare(session, keep, submission)
    except ApiError as refusal:
        return refusal


def _refused_unless_locked(session: Session, new: NewJob | ApiError) -> NewJob | ApiError:
    if isinstance(new, ApiError) or artifacts.hold(session, _artifact_ids(session, [new])):
        return new
    reference = new.spec["model"]
    message = f"{reference}, or what it is compared with, was deleted while the job was being made"
    return refused(422, "model", "model_not_found", reference, message, "name a version that stays")


def _artifact_ids(session: Session, prepared: Sequence[NewJob | ApiError]) -> set[str]:
    """Return the ids of the artifacts that these jobs start from and compare with."""
    accepted = [new for new in prepared if isinstance(new, NewJob)]
    found = {new.base_artifact_id for new in accepted if new.base_artifact_id is not None}
    for new in accepted:
        if rival := new.spec.get("compare_to"):
            compared = artifacts.resolve(session, new.project_id, rival)
            found.add(rival if compared is None else compared.id)
    return found
