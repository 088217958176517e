"""Evals and their runs: made and shown here, graded row by row by the reaper."""

import re
from typing import Any

from pydantic import ValidationError

from api.answers import Page
from api.auth import Caller
from api.deps import Service
from api.errors import ApiError, not_found
from api.idempotency import once
from api.openai.evals.schemas import (
    ITEM,
    ITEM_ID,
    CompletionsSource,
    DeletedEval,
    DeletedRun,
    EvalChange,
    EvalObject,
    EvalRequest,
    FileById,
    ItemObject,
    RunObject,
    RunRequest,
    eval_object,
    item_object,
    run_object,
)
from db import audit, evals, files, permissions
from db.idempotency import IdempotentRequest
from db.models import Eval, EvalRun
from db.paging import Order
from db.session import Session
from engine.graders import GRADER, models_of


def create(service: Service, caller: Caller, asked: EvalRequest, ask: IdempotentRequest | None) -> EvalObject:
    """Create an eval. Raises ApiError 400 for a criterion with an unknown model."""
    definition = asked.model_dump(mode="json", exclude={"name"}) | {"metadata": asked.metadata or {}}
    with service.database.write() as session:
        for number, criterion in enumerate(asked.testing_criteria):
            for model in models_of(criterion):
                _require_model(session, caller, model, f"testing_criteria[{number}].model")

        def make() -> EvalObject:
            made = evals.add(session, caller.project_id, asked.name, definition)
            audit.note(session, "eval.create", made.id)
            return eval_object(made)

        return once(session, ask, EvalObject, make)


def find(session: Session, caller: Caller, eval_id: str) -> Eval:
    """Return an eval of the project. Raises ApiError 404 when there is none."""
    made = evals.get(session, caller.project_id, eval_id)
    if made is None:
        raise not_found("eval", eval_id)
    return made


def find_run(session: Session, caller: Caller, eval_id: str, run_id: str) -> EvalRun:
    """Return a run of the eval. Raises ApiError 404 when there is none."""
    run = evals.run(session, caller.project_id, eval_id, run_id)
    if run is None:
        raise not_found("run", run_id)
    return run


def show(service: Service, caller: Caller, eval_id: str) -> EvalObject:
    with service.database.read() as session:
        return eval_object(find(session, caller, eval_id))


def page(
    service: Service, caller: Caller, *, after: str | None, limit: int, order: Order, order_by: str
) -> Page[EvalObject]:
    """Return a page of evals. Raises ApiError 404 for an unknown `after` in the order of changes."""
    listed = evals.page_by_change if order_by == "updated_at" else evals.page
    with service.database.read() as session:
        try:
            rows, has_more = listed(session, caller.project_id, after=after, limit=limit, order=order)
        except LookupError:
            raise not_found("eval", str(after)) from None
        return Page.of([eval_object(row) for row in rows], has_more)


def change(service: Service, caller: Caller, eval_id: str, asked: EvalChange) -> EvalObject:
    with service.database.write() as session:
        changed = evals.change(session, find(session, caller, eval_id), asked.name, asked.metadata)
        audit.note(session, "eval.update", eval_id, {"changed": sorted(asked.model_dump(exclude_none=True))})
        return eval_object(changed)


def delete(service: Service, caller: Caller, eval_id: str) -> DeletedEval:
    with service.database.write() as session:
        evals.delete(session, find(session, caller, eval_id))
        audit.note(session, "eval.delete", eval_id)
    return DeletedEval(eval_id=eval_id)


def create_run(
    service: Service, caller: Caller, eval_id: str, asked: RunRequest, ask: IdempotentRequest | None
) -> RunObject:
    """Start a run.

    Raises:
        ApiError: 404 for the eval, 400 for a file without items, an unknown model, or criteria that are no longer valid.
    """
    with service.database.write() as session:
        made = find(session, caller, eval_id)
        source = asked.data_source.source
        if isinstance(source, FileById):
            _require_items(session, caller, source.id)
        if isinstance(asked.data_source, CompletionsSource):
            _require_model(session, caller, asked.data_source.model, "data_source.model")
        definition: dict[str, Any] = {
            "asks": isinstance(asked.data_source, CompletionsSource) or _ask_models(made),
            "data_source": asked.data_source.model_dump(mode="json", exclude_none=True),
            "metadata": asked.metadata or {},
            "testing_criteria": made.definition["testing_criteria"],
        }

        def make() -> RunObject:
            run = evals.add_run(session, made, asked.name, definition)
            audit.note(session, "eval_run.create", run.id)
            return run_object(run)

        return once(session, ask, RunObject, make)


def _ask_models(made: Eval) -> bool:
    try:
        return any(models_of(GRADER.validate_python(criterion)) for criterion in made.definition["testing_criteria"])
    except ValidationError as error:  # made by a release that checked less
        message = (
            f"testing_criteria of {made.id}: {error.errors()[0]['msg']}; create the eval again without that criterion"
        )
        raise ApiError(400, "criterion_not_graded", message) from error


def _require_model(session: Session, caller: Caller, model: str, param: str) -> None:
    if permissions.usable(session, caller.project_id, model) is None:
        message = f"there is no model, adapter or checkpoint {model[:100]!r} in this project"
        raise ApiError(400, "model_not_found", message, param=param)


def _require_items(session: Session, caller: Caller, file_id: str) -> None:
    file = files.keep(session, caller.project_id, file_id)
    if file is None or file.format != "item":
        reason = "there is no such file" if file is None else f"its rows have the format {file.format}"
        message = (
            f'{file_id}: {reason}; a run takes a file of purpose evals whose rows are {{"item": ..., "sample": ...}}'
        )
        raise ApiError(400, "file_not_found" if file is None else "wrong_file_format", message, param="data_source")


def show_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> RunObject:
    with service.database.read() as session:
        return run_object(find_run(session, caller, eval_id, run_id))


def runs(
    service: Service, caller: Caller, eval_id: str, *, after: str | None, limit: int, order: Order, state: str | None
) -> Page[RunObject]:
    with service.database.read() as session:
        find(session, caller, eval_id)
        rows, has_more = evals.runs(session, eval_id, after=after, limit=limit, order=order, state=state)
        return Page.of([run_object(row) for row in rows], has_more)


def cancel_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> RunObject:
    """Cancel a run; one that has ended stays as it is."""
    with service.database.write() as session:
        find_run(session, caller, eval_id, run_id)
        evals.cancel(session, run_id)
        audit.note(session, "eval_run.cancel", run_id)
        return run_object(find_run(session, caller, eval_id, run_id))


def delete_run(service: Service, caller: Caller, eval_id: str, run_id: str) -> DeletedRun:
    with service.database.write() as session:
        evals.delete(session, find_run(session, caller, eval_id, run_id))
        audit.note(session, "eval_run.delete", run_id)
    return DeletedRun(run_id=run_id)


def items(
    service: Service, caller: Caller, eval_id: str, run_id: str,
    *, after: str | None, limit: int, order: Order, state: str | None,
) -> Page[ItemObject]:  # fmt: skip
    with service.database.read() as session:
        run = find_run(session, caller, eval_id, run_id)
        last = None if after is None else int(after.removeprefix(ITEM))
        rows, has_more = evals.items(session, run_id, after=last, limit=limit, order=order, state=state)
        return Page.of([item_object(run, row) for row in rows], has_more)


def item(service: Service, caller: Caller, eval_id: str, run_id: str, item_id: str) -> ItemObject:
    with service.database.read() as session:
        run = find_run(session, caller, eval_id, run_id)
        known = re.fullmatch(ITEM_ID, item_id)
        found = evals.item(session, run_id, int(item_id.removeprefix(ITEM))) if known else None
        if found is None:
            raise not_found("output item", item_id)
        return item_object(run, found)
