"""From the body of a request to a submission: the spec is read and resolved, or taken from a plan."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from api.auth import Caller
from api.deps import OBJECT_ID, Service
from api.errors import not_found
from api.jobs.intake import Submission, prepare
from api.jobs.schemas import JobObject
from api.validation import invalid
from db import files, log_context, plans, traces
from db.idempotency import IdempotentRequest
from db.jobs import NewJob
from engine.jobs import JOB_SPEC, AnySpec, resolve


async def create(
    service: Service,
    caller: Caller,
    body: Any,
    ask: IdempotentRequest | None = None,
    warnings: Mapping[str, str] | None = None,
) -> JobObject:
    """Queue the job that a body asks for, or return the one that the same request made before.

    The body is a spec, or {"plan_id": ...} and nothing else. The dispatcher is woken after the commit.

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
    """Return what a plan binds to: its spec has no `auto` left that a machine could decide another way."""
    known = isinstance(plan_id, str) and re.fullmatch(OBJECT_ID, plan_id)
    with service.database.read() as session:
        plan = plans.get(session, caller.project_id, plan_id) if known else None
    if plan is None:
        raise not_found("plan", str(plan_id))
    needed_bytes = (plan.forecast.get("memory") or {}).get("total", 0)
    return Submission(caller, read_spec(plan.spec), plan.id, needed_bytes)


def checked(service: Service, caller: Caller, body: Any) -> NewJob:
    """Return the job that a body would make, without making it. Raises ApiError as `create` does."""
    with service.database.read() as session:
        return prepare(session, partial(files.get, session), Submission(caller, read_spec(body)))


def question_of(new: NewJob) -> dict[str, Any]:
    """Return the job as a question to the desk names it."""
    return {"project_id": new.project_id, "spec": new.spec, "base_id": new.base_artifact_id}


def read_spec(body: Any) -> AnySpec:
    """Return the resolved spec that a body holds. Raises ApiError 422 when it holds none."""
    try:
        spec: Any = JOB_SPEC.validate_python(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False), body) from error
    return resolve(spec)
