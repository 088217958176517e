"""Evals of OpenAI's evals API (/v1/evals), their runs, and the items of those. Not jobs of kind `eval`."""

import time
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Select, Table, false, func, insert, literal_column, select, tuple_
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from db import paging, webhooks
from db.ids import new_id
from db.models import Eval, EvalItem, EvalRun

OPEN = ("queued", "in_progress")
# The states are spelled out: parameters would keep SQLite from the partial index.
_IS_OPEN = EvalRun.state.in_([literal_column(f"'{state}'") for state in OPEN])
ASKED, PROMPT, COMPLETION = "asked ", "prompt tokens ", "completion tokens "
"""The prefixes of a tally's counts for each model that is asked; the model's name follows."""
_ENDS = {"completed": "succeeded", "failed": "failed", "canceled": "canceled"}
"""The names of final states in webhook events."""
_FRESH = {"synchronize_session": False}


def add(s: Session, project_id: str, name: str, definition: dict[str, Any]) -> Eval:
    now = time.time()
    made = Eval(
        id=new_id("eval"), project_id=project_id, name=name, definition=definition, created_at=now, updated_at=now
    )
    s.add(made)
    s.flush()
    return made


def get(s: Session, project_id: str, eval_id: str) -> Eval | None:
    """Return the project's eval with that id, unless it is deleted."""
    query = select(Eval).where(Eval.id == eval_id, Eval.project_id == project_id, Eval.deleted_at.is_(None))
    return s.scalars(query).one_or_none()


def page(s: Session, project_id: str, *, after: str | None, limit: int, order: paging.Order) -> tuple[list[Eval], bool]:
    query = select(Eval).where(Eval.project_id == project_id, Eval.deleted_at.is_(None))
    query = paging.ordered(query, Eval.id, after=after, order=order)
    return paging.page_of_documents(s, query, Eval.id, (Eval.definition,), limit=limit)


def page_by_change(
    s: Session, project_id: str, *, after: str | None, limit: int, order: paging.Order
) -> tuple[list[Eval], bool]:
    """Return a page of evals ordered by their last change; an eval that is changed between two pages moves.

    Raises:
        LookupError: the project has never had the eval `after`.
    """
    query = select(Eval).where(Eval.project_id == project_id, Eval.deleted_at.is_(None))
    if after is not None:
        last = s.scalars(select(Eval).where(Eval.id == after, Eval.project_id == project_id)).one_or_none()
        if last is None:
            raise LookupError(after)
        here, there = tuple_(Eval.updated_at, Eval.id), tuple_(last.updated_at, last.id)
        query = query.where(here > there if order == "asc" else here < there)
    keys = [key.asc() if order == "asc" else key.desc() for key in (Eval.updated_at, Eval.id)]
    return paging.page_of_documents(s, query.order_by(*keys), Eval.id, (Eval.definition,), limit=limit)


def change(s: Session, made: Eval, name: str | None, metadata: dict[str, str] | None) -> Eval:
    """Change the name or the metadata of an eval."""
    made.name = made.name if name is None else name
    if metadata is not None:
        made.definition = made.definition | {"metadata": metadata}
    made.updated_at = time.time()
    s.flush()
    return made


def delete(s: Session, gone: Eval | EvalRun) -> None:
    if isinstance(gone, EvalRun):
        cancel(s, gone.id)
    gone.deleted_at = time.time()
    s.flush()


def add_run(s: Session, made: Eval, name: str, definition: dict[str, Any]) -> EvalRun:
    """Add a run that waits to be graded."""
    run = EvalRun(
        id=new_id("evalrun"), eval_id=made.id, project_id=made.project_id, name=name, definition=definition,
        state="queued", offset_bytes=0, tally={}, created_at=time.time(),
    )  # fmt: skip
    s.add(run)
    s.flush()
    return run


def run(s: Session, project_id: str, eval_id: str, run_id: str) -> EvalRun | None:
    """Return the run of that eval, unless either is deleted."""
    query = select(EvalRun).join(Eval, Eval.id == EvalRun.eval_id)
    query = query.where(EvalRun.id == run_id, Eval.id == eval_id, EvalRun.project_id == project_id)
    return s.scalars(query.where(EvalRun.deleted_at.is_(None), Eval.deleted_at.is_(None))).one_or_none()


def runs(
    s: Session, eval_id: str, *, after: str | None, limit: int, order: paging.Order, state: str | None
) -> tuple[list[EvalRun], bool]:
    query = select(EvalRun).where(EvalRun.eval_id == eval_id, EvalRun.deleted_at.is_(None))
    if state is not None:
        query = query.where(EvalRun.state == state)
    query = paging.ordered(query, EvalRun.id, after=after, order=order)
    return paging.page_of_documents(s, query, EvalRun.id, (EvalRun.definition,), limit=limit)


def open_runs(s: Session, limit: int, *, asking: bool) -> list[str]:
    """Return the ids of runs that are still to be graded: those that ask a model, or all others.

    Runs of deleted evals are left out. The order is random, except that each project has a first run before any has a
    second. At most `10 * limit` runs are considered, since whether a run asks is part of its definition, which may be
    long.
    """
    place = func.row_number().over(partition_by=EvalRun.project_id, order_by=func.random()).label("place")
    waiting = select(EvalRun.id, place).join(Eval, Eval.id == EvalRun.eval_id).where(_IS_OPEN)
    waiting = waiting.where(EvalRun.deleted_at.is_(None), Eval.deleted_at.is_(None)).subquery()
    drawn = list(s.scalars(select(waiting.c.id).order_by(waiting.c.place, func.random()).limit(10 * limit)))
    asks = func.coalesce(EvalRun.definition["asks"].as_boolean(), false())
    wanted = set(s.scalars(select(EvalRun.id).where(EvalRun.id.in_(drawn), asks if asking else ~asks)))
    return [run_id for run_id in drawn if run_id in wanted][:limit]


def open_run(s: Session, run_id: str) -> EvalRun | None:
    """Return the run if it is open."""
    return s.scalars(_open(run_id)).one_or_none()


def lock(s: Session, run_id: str) -> EvalRun | None:
    """Return the run if it is open, and lock it: nothing else grades or cancels it until this transaction ends."""
    query = _open(run_id).with_for_update()
    return s.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def cancel(s: Session, run_id: str) -> None:
    """Cancel a run if it is open."""
    found = lock(s, run_id)
    if found is not None:
        _end(s, found, "canceled")


def advance(
    s: Session, found: EvalRun, items: Sequence[dict[str, Any]], *, state: str, offset_bytes: int, tally: dict[str, Any]
) -> None:
    """Add graded rows, each {number, row, results, state}, and store how far the run has come."""
    now = time.time()
    if items:
        rows = [item | {"run_id": found.id, "created_at": now} for item in items]
        s.execute(insert(cast("Table", EvalItem.__table__)), rows)
    found.offset_bytes, found.tally = offset_bytes, tally
    if state in OPEN:
        found.state = state
        s.flush()
    else:
        _end(s, found, state)


def fail(s: Session, found: EvalRun, message: str) -> None:
    found.error_message = message
    _end(s, found, "failed")


def items(
    s: Session, run_id: str, *, after: int | None, limit: int, order: paging.Order, state: str | None
) -> tuple[list[EvalItem], bool]:
    query = select(EvalItem).where(EvalItem.run_id == run_id)
    if state is not None:
        query = query.where(EvalItem.state == state)
    query = paging.ordered(query, EvalItem.number, after=after, order=order)
    return paging.page_of_documents(s, query, EvalItem.number, (EvalItem.row, EvalItem.results), limit=limit)


def item(s: Session, run_id: str, number: int) -> EvalItem | None:
    query = select(EvalItem).where(EvalItem.run_id == run_id, EvalItem.number == number)
    return s.scalars(query).one_or_none()


def purge(s: Session, older_than_s: float, limit: int) -> int:
    """Remove the items, and then the runs, of runs and evals that were deleted longer ago than that.

    At most `limit` rows are removed; the number of them is returned. The rows of the evals themselves stay, since pages
    of evals may continue from a deleted one.
    """
    moment = time.time() - older_than_s
    # Two queries: with an OR of both conditions neither index is used, and all runs are read.
    run_ids = list(s.scalars(select(EvalRun.id).where(EvalRun.deleted_at < moment).limit(limit)))
    of_eval = select(EvalRun.id).join(Eval, Eval.id == EvalRun.eval_id)
    of_eval = of_eval.where(Eval.deleted_at < moment, EvalRun.id.not_in(run_ids))
    run_ids += s.scalars(of_eval.limit(limit - len(run_ids)))
    graded = select(EvalItem.run_id, EvalItem.number).where(EvalItem.run_id.in_(run_ids)).limit(limit)
    by_run: dict[str, list[int]] = {}
    for run_id, number in s.execute(graded):
        by_run.setdefault(run_id, []).append(number)
    for run_id, numbers in by_run.items():
        items = delete_rows(EvalItem).where(EvalItem.run_id == run_id, EvalItem.number.in_(numbers))
        s.execute(items, execution_options=_FRESH)
    removed = sum(len(numbers) for numbers in by_run.values())
    if removed < limit:  # none of these runs has an item left
        empty = run_ids[: limit - removed]
        s.execute(delete_rows(EvalRun).where(EvalRun.id.in_(empty)), execution_options=_FRESH)
        removed += len(empty)
    return removed


def _end(s: Session, found: EvalRun, state: str) -> None:
    found.state = state
    s.flush()
    webhooks.announce(s, found.project_id, f"eval.run.{_ENDS[state]}", found.id)


def _open(run_id: str) -> Select[EvalRun]:
    return select(EvalRun).where(EvalRun.id == run_id, _IS_OPEN)
