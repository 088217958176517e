"""Which runs are graded next, and evals in the order of their changes."""

from typing import Any

import pytest

from db import evals
from db.models import Eval, EvalItem, EvalRun
from tests.integration.db.work import Work


def add_run(work: Work, *, asks: bool = False) -> str:
    def act(s: Any) -> EvalRun:
        made = evals.add(s, work.project_id, "eval", {})
        return evals.add_run(s, made, "run", {"asks": asks})

    return work.write(act).id


def open_runs(work: Work, limit: int, *, asking: bool = False) -> list[str]:
    return work.read(evals.open_runs, limit, asking=asking)


def test_each_project_has_a_run_before_any_has_a_second(work: Work, theirs: Work) -> None:
    mine = {add_run(work) for _ in range(6)}
    others = {add_run(theirs)}
    first, second = open_runs(work, 2)
    assert len({first, second} & mine) == len({first, second} & others) == 1


def test_of_one_project_any_run_may_be_the_first(work: Work) -> None:
    runs = {add_run(work) for _ in range(3)}
    assert {open_runs(work, 1)[0] for _ in range(100)} == runs


def test_runs_that_ask_and_all_others_are_told_apart(work: Work) -> None:
    asks, does_not = add_run(work, asks=True), add_run(work)
    assert open_runs(work, 10, asking=True) == [asks]
    assert open_runs(work, 10) == [does_not]


def graded(work: Work, count: int) -> str:
    """A run with that many graded rows, and more to come."""
    run_id = add_run(work)
    rows = [{"number": number, "row": {}, "results": {}, "state": "pass"} for number in range(count)]
    with work.database.write() as s:
        found = evals.lock(s, run_id)
        assert found is not None
        evals.advance(s, found, rows, state="in_progress", offset_bytes=1, tally={})
    return run_id


def count(work: Work, table: type[EvalItem] | type[EvalRun]) -> int:
    return work.read(lambda s: s.query(table).count())


@pytest.mark.parametrize("gone", ["run", "eval"])
def test_what_was_graded_of_a_deleted_run_or_eval_is_removed_after_its_time(work: Work, gone: str) -> None:
    graded(work, 2)
    run_id = graded(work, 5)
    with work.database.write() as s:
        run = s.get_one(EvalRun, run_id)
        evals.delete(s, run if gone == "run" else s.get_one(Eval, run.eval_id))
    assert work.write(evals.purge, 60.0, 3) == 0
    assert [work.write(evals.purge, -1.0, 3) for _ in range(3)] == [3, 3, 0]
    assert (count(work, EvalItem), count(work, EvalRun)) == (2, 1)


def made(work: Work, *updated_at: float) -> list[str]:
    def act(s: Any) -> list[str]:
        ids = []
        for when in updated_at:
            one = evals.add(s, work.project_id, "eval", {"metadata": {}})
            one.updated_at = when
            ids.append(one.id)
        return ids

    return work.write(act)


@pytest.mark.parametrize(("order", "places"), [("asc", [2, 0, 1, 3]), ("desc", [3, 1, 0, 2])])
def test_evals_are_paged_by_their_last_change_and_those_of_one_moment_by_id(
    work: Work, theirs: Work, order: str, places: list[int]
) -> None:
    ids = made(work, 20.0, 20.0, 10.0, 30.0)
    made(theirs, 15.0)
    listed: list[Eval] = []
    more = True
    while more:
        after = listed[-1].id if listed else None
        page, more = work.read(evals.page_by_change, work.project_id, after=after, limit=1, order=order)
        listed += page
    assert [one.id for one in listed] == [ids[place] for place in places]


def test_a_page_goes_on_from_an_eval_that_is_deleted_and_from_none_of_another_project(work: Work, theirs: Work) -> None:
    gone, kept = made(work, 1.0, 2.0)
    work.write(lambda s: evals.delete(s, s.get_one(Eval, gone)))
    page, _ = work.read(evals.page_by_change, work.project_id, after=gone, limit=5, order="asc")
    assert [one.id for one in page] == [kept]
    with pytest.raises(LookupError):
        work.read(evals.page_by_change, work.project_id, after=made(theirs, 1.0)[0], limit=5, order="asc")
