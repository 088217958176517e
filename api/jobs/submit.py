"""A job from the body of a request to its row: the spec is checked, resolved and pinned."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError

from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.idempotency import once
from api.jobs.pins import pin, refused
from api.jobs.schemas import JobObject
from api.jobs.views import fresh_objects
from api.spend.service import require_room
from api.validation import invalid
from db import artifacts, audit, files, jobs, log_context, plans, records, traces
from db.idempotency import IdempotentRequest
from db.models import File
from db.session import Session
from engine.jobs import JOB_SPEC, AnySpec, named_files, resolve

Keep: TypeAlias = Callable[[str, str], File | None]
_CHECKS = 10
"""So often is looked again for what jobs start from when that is deleted meanwhile."""


class Submission(NamedTuple):
    """A spec on its way in, whose it is, what the audit log tells of its request, and what a repeat is recognised by.

    `warnings`, by the type of the event, are the first that the job's log tells.
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
    def alone(self) -> bool:
        """Whether it is made one by one: its retry may stand beside it, or its budget may have room for one alone."""
        return self.ask is not None or self.caller.limited


async def create(
    service: Service,
    caller: Caller,
    body: Any,
    ask: IdempotentRequest | None = None,
    warnings: Mapping[str, str] | None = None,
) -> JobObject:
    """A queued job, or the one that the same request made before. The dispatcher is told after the commit.

    The body is a spec, or {"plan_id": ...} and nothing beside it.

    Raises:
        ApiError: 422 or 404, with the path in the spec as `param`.
        LowSpace: the disk is nearly full.
    """
    if isinstance(body, dict) and body.keys() == {"plan_id"}:
        submission = await service.look(_planned, service, caller, body["plan_id"])
    else:
        submission = Submission(caller, read_spec(body))
    service.blobs.require_space()
    with traces.span("job.create", project_id=caller.project_id, kind=submission.spec.kind):
        price = service.settings.price_per_hour
        shown = await service.intake.put(
            submission._replace(request=log_context.now(), ask=ask, warnings=warnings or {}, price_per_hour=price)
        )
    service.dispatcher.wake()
    return shown


def _planned(service: Service, caller: Caller, plan_id: Any) -> Submission:
    """What a plan binds to: its spec has no `auto` left that a machine could decide another way."""
    with service.database.read() as session:
        plan = plans.get(session, caller.project_id, plan_id) if isinstance(plan_id, str) else None
    if plan is None:
        raise not_found("plan", str(plan_id))
    needed_bytes = (plan.forecast.get("memory") or {}).get("total", 0)
    return Submission(caller, read_spec(plan.spec), plan.id, needed_bytes)


def checked(service: Service, caller: Caller, body: Any) -> jobs.NewJob:
    """The job that a body would make, and none is made.

    Raises:
        ApiError: as `create`.
    """
    with service.database.read() as session:
        new = _checked(session, partial(files.get, session), Submission(caller, read_spec(body)))
    if isinstance(new, ApiError):
        raise new
    return new


def question_of(new: jobs.NewJob) -> dict[str, Any]:
    """The job as the desk is asked about it."""
    return {"project_id": new.project_id, "spec": new.spec, "base_id": new.base_artifact_id}


def write(session: Session, submissions: Sequence[Submission]) -> list[JobObject | Exception]:
    """Check and store what came in at the same time; a refusal is that submission's alone."""
    together = iter(_write(session, [submission for submission in submissions if not submission.alone]))
    return [_write_once(session, each) if each.alone else next(together) for each in submissions]


def _write(session: Session, submissions: Sequence[Submission]) -> list[JobObject | Exception]:
    keep = cache(partial(files.keep, session))  # a sweep names the same files again and again
    checked = _held(session, lambda: [_traced(_admitted(session, keep, each), each) for each in submissions])
    rows = jobs.create(session, [new for new in checked if isinstance(new, jobs.NewJob)])
    sound = [each for each, new in zip(submissions, checked, strict=True) if isinstance(new, jobs.NewJob)]
    audit.note_all(session, "job.create", [(each.request, row.id) for each, row in zip(sound, rows, strict=True)])
    for each, row in zip(sound, rows, strict=True):
        for event_type, message in each.warnings.items():
            records.note(session, row.id, event_type, "warn", message)
    made = iter(fresh_objects(session, rows))
    return [next(made) if isinstance(new, jobs.NewJob) else new for new in checked]


def _held(session: Session, check: Callable[[], list[jobs.NewJob | ApiError]]) -> list[jobs.NewJob | ApiError]:
    """What was checked, with what it starts from held: where one was deleted just now its name may mean another."""
    for _ in range(_CHECKS):
        checked = check()
        if artifacts.hold(session, _bases(session, checked)):
            return checked
    return [_refused_unless_held(session, new) for new in check()]


def _refused_unless_held(session: Session, new: jobs.NewJob | ApiError) -> jobs.NewJob | ApiError:
    if isinstance(new, ApiError) or artifacts.hold(session, _bases(session, [new])):
        return new
    reference = new.spec["model"]
    message = f"{reference} was deleted while a job was made from it or to compare with it"
    return refused(422, "model", "model_not_found", reference, message, "name a version that stays")


def _bases(session: Session, checked: Sequence[jobs.NewJob | ApiError]) -> set[str]:
    """The ids of what these jobs start from and compare with."""
    sound = [new for new in checked if isinstance(new, jobs.NewJob)]
    found = {new.base_artifact_id for new in sound if new.base_artifact_id is not None}
    for new in sound:
        if rival := new.spec.get("compare_to"):
            compared = artifacts.resolve(session, new.project_id, rival)
            found.add(rival if compared is None else compared.id)
    return found


def _write_once(session: Session, submission: Submission) -> JobObject | Exception:
    def make() -> JobObject:
        (made,) = _write(session, [submission])
        if isinstance(made, Exception):
            raise made
        return made

    try:
        return once(session, submission.ask, JobObject, make)
    except ApiError as refusal:
        return refusal


def _traced(new: jobs.NewJob | ApiError, submission: Submission) -> jobs.NewJob | ApiError:
    """The job goes on with the trace of its request."""
    traceparent = submission.request.get("traceparent")
    return new._replace(traceparent=traceparent) if isinstance(new, jobs.NewJob) else new


def _admitted(session: Session, keep: Keep, submission: Submission) -> jobs.NewJob | ApiError:
    """The job, where a budget leaves room for one more: what is only looked at, or planned, takes none."""
    try:
        require_room(session, submission.caller, submission.price_per_hour, jobs=1)
    except ApiError as refusal:
        return refusal
    return _checked(session, keep, submission)


def _checked(session: Session, keep: Keep, submission: Submission) -> jobs.NewJob | ApiError:
    caller, spec = submission.caller, submission.spec
    project_id = caller.project_id
    try:
        told = spec.model_dump(mode="json")
        _check_files(keep, project_id, spec, told)
        pinned = pin(session, project_id, spec)
    except ApiError as refusal:
        return refusal
    base_id = None if pinned.base is None else pinned.base.id
    return jobs.NewJob(
        project_id,
        told | pinned.fields,
        spec.kind,
        spec.resources.priority,
        base_id,
        submission.plan_id,
        key_id=caller.key_id,
        needed_bytes=submission.needed_bytes,
    )


def read_spec(body: Any) -> AnySpec:
    """The resolved spec that a body is. Raises ApiError 422."""
    try:
        spec: Any = JOB_SPEC.validate_python(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), body) from error
    return resolve(spec)


def _check_files(keep: Keep, project_id: str, spec: AnySpec, told: dict[str, Any]) -> None:
    """`told` is the spec as JSON."""
    takes = spec.takes()
    for path, _, file_id in named_files(told):
        file = keep(project_id, file_id)
        if file is None:
            raise refused(404, path, "file_not_found", file_id, f"there is no file {file_id!r} in this project", None)
        if file.format not in takes:
            message = f"{file_id} has {file.format} rows; this {spec.kind} job takes {', '.join(takes)}"
            hint = f"upload a file of such rows with purpose {spec.PURPOSE!r}"
            raise refused(422, path, "wrong_file_format", file.format, message, hint)
