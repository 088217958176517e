"""The figures of runs as columns in memory: always what the database holds, whatever was told again."""

import math

import pytest

from db import curve_cache, leases, records
from db.curve_cache import UNTOLD, CurveCache
from db.curves import curve
from db.state import JobState
from tests.integration.db.work import Work, metric


@pytest.fixture
def run(work: Work) -> tuple[str, int]:
    job_id = work.submit()
    return job_id, work.run(job_id)


def tell(work: Work, run: tuple[str, int], *metrics: dict) -> None:
    assert work.write(records.append, *run, events=(), metrics=metrics, lease_s=60)


def steps_and_losses(work: Work, shelf: CurveCache, run: tuple[str, int]) -> dict[int, float]:
    job = work.job(run[0])
    with work.database.read() as s, shelf.take(s, job, "train") as taken:
        return dict(zip(taken.steps, taken.figures["loss"], strict=True))


def test_what_is_told_later_is_added_and_what_is_told_again_takes_its_place(work: Work, run: tuple[str, int]):
    shelf = CurveCache()
    tell(work, run, *[metric(step, 1.0 * step) for step in range(1, 6)])
    assert steps_and_losses(work, shelf, run) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    tell(work, run, metric(4, 40.0), metric(9, 9.0, split="eval"))
    assert steps_and_losses(work, shelf, run) == {1: 1, 2: 2, 3: 3, 4: 40, 5: 5}
    tell(work, run, metric(5, 50.0), metric(6, 60.0))
    assert steps_and_losses(work, shelf, run) == steps_and_losses(work, CurveCache(), run)
    assert steps_and_losses(work, shelf, run)[6] == 60


def test_a_figure_that_only_some_steps_tell_has_points_there_alone(work: Work, run: tuple[str, int]):
    told = [metric(1), metric(2, values={"loss": None, "rare": 7.0}), metric(3)]
    tell(work, run, *told)
    with work.database.read() as s, CurveCache().take(s, work.job(run[0]), "train") as taken:
        assert list(taken.figures["rare"]) == [UNTOLD, 7.0, UNTOLD]
        assert math.isnan(taken.figures["loss"][1])
        found = curve(taken, name="rare", points=10, smoothing=0.0)
    assert [(point.step, point.value) for point in found.points] == [(2, 7.0)]
    assert found.total == 1


def test_what_a_lost_attempt_told_beyond_the_end_of_the_run_is_taken_back(work: Work, run: tuple[str, int]):
    shelf = CurveCache()
    tell(work, run, *[metric(step) for step in range(1, 6)])
    assert max(steps_and_losses(work, shelf, run)) == 5
    work.write(records.end_at, run[0], 3)
    assert work.write(leases.settle, *run, state=JobState.SUCCEEDED)
    assert steps_and_losses(work, shelf, run) == steps_and_losses(work, CurveCache(), run) == {1: 1, 2: 1, 3: 1}


def test_a_run_that_tells_nothing_new_is_not_read_again(
    work: Work, run: tuple[str, int], monkeypatch: pytest.MonkeyPatch
):
    shelf = CurveCache()
    tell(work, run, metric(1))
    before = steps_and_losses(work, shelf, run)
    monkeypatch.setattr(curve_cache.Columns, "_add_news", lambda *_: pytest.fail("it was read again"))
    assert steps_and_losses(work, shelf, run) == before


def test_the_run_asked_for_longest_ago_makes_room(work: Work, run: tuple[str, int]):
    shelf = CurveCache(most_cells=30)
    other = work.submit()
    second = (other, work.run(other))
    for one in (run, second):
        tell(work, one, *[metric(step) for step in range(1, 9)])
        assert len(steps_and_losses(work, shelf, one)) == 8
    assert [job_id for job_id, _ in shelf._kept] == [other]
    assert len(steps_and_losses(work, shelf, run)) == 8
