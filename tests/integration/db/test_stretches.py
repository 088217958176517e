"""Long curves: what is kept of them as they are written, and what is read of it."""

import random
from typing import Any

import pytest
from sqlalchemy import select

from db import curves, jobs, migrate, records, stretches
from db.models import Stretch
from db.stretches import Point
from tests.integration.db.work import Work

EVERY = 8
"""Steps between two points: enough steps for stretches, and few rows for a test."""
Figures = dict[int, dict[str, float | None]]


def run_of(first: int, last: int, seed: int = 7) -> Figures:
    """Figures by step, some not finite, one told now and then only."""
    draw = random.Random(seed)
    told: Figures = {}
    for step in range(first, last + 1, EVERY):
        loss = None if draw.random() < 0.01 else round(draw.random(), 3)
        told[step] = {"loss": loss, "tokens": step * 10.0} | ({"seldom": 1.0 + step} if draw.random() < 0.002 else {})
    return told


def write(work: Work, job_id: str, fence: int, told: Figures, split: str = "train") -> None:
    rows = [
        {"split": split, "step": step, "values": values, "created_at": 1000.0 + step} for step, values in told.items()
    ]
    for start in range(0, len(rows), 250):
        with work.database.write() as s:
            assert records.append(s, job_id, fence, events=[], metrics=rows[start : start + 250], lease_s=60)


def kept(work: Work) -> list[dict[str, Any]]:
    """All stretches; the means as far as the order of their sums does not matter."""
    keys = ("job_id", "split", "name", "size", "start")
    with work.database.read() as s:
        rows = [dict(row) for row in s.execute(select(*Stretch.__table__.c)).mappings()]
    for row in rows:
        row["mean"] = row["mean"] and round(row["mean"], 9)
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def shown(work: Work, job_id: str, name: str = "loss", points: int = 100_000, smoothing: float = 0.0) -> curves.Curve:
    with work.database.read() as s:
        job = jobs.find(s, job_id)
        assert job is not None
        return curves.long_curve(s, job, split="train", name=name, points=points, smoothing=smoothing)


@pytest.fixture(autouse=True)
def _few_stretches_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "_MOST_STRETCHES", 200)


def test_a_long_curve_has_the_ends_the_extremes_and_the_gaps_of_its_stretches(work: Work) -> None:
    job_id = work.submit()
    told = run_of(1, 20_000)
    told[4001]["loss"], told[12_001]["loss"] = 900.0, -900.0
    write(work, job_id, work.run(job_id), told)
    found = shown(work, job_id)
    assert found.total == len(told)
    assert len(found.points) < len(told)
    values = {step: values["loss"] for step, values in told.items()}
    assert all(
        point == Point(point.step, 1000.0 + point.step, point.step * 10.0, values[point.step]) for point in found.points
    )
    assert [found.points[0].step, found.points[-1].step] == [1, max(told)]
    steps = {point.step for point in found.points}
    assert {4001, 12_001} <= steps
    for start in range(0, 19_968, 128):
        within = [step for step in told if start <= step < start + 128]
        finite = [(values[step], step) for step in within if values[step] is not None]
        gaps = [step for step in within if values[step] is None]
        assert {min(finite)[1], *gaps[:1]} <= steps
        assert max(value for value, _ in finite) in {values[step] for step in steps if start <= step < start + 128}


def test_a_figure_told_now_and_then_is_read_whole(work: Work) -> None:
    job_id = work.submit()
    told = run_of(1, 20_000)
    write(work, job_id, work.run(job_id), told)
    seldom = [step for step, values in told.items() if "seldom" in values]
    assert [point.step for point in shown(work, job_id, "seldom").points] == seldom
    assert shown(work, job_id, "never") == curves.Curve([], None, 0, 0)


def test_a_long_curve_is_smoothed_by_its_stretches_and_a_constant_stays_one(work: Work) -> None:
    job_id = work.submit()
    told = run_of(1, 20_000)
    for values in told.values():
        values["same"] = 0.1
    write(work, job_id, work.run(job_id), told)
    assert set(shown(work, job_id, "same", smoothing=0.99).smoothed or []) == {0.1}
    smoothed = shown(work, job_id, smoothing=0.9).smoothed or []
    values = [point.value for point in shown(work, job_id).points]
    assert [mean is None for mean in smoothed] == [value is None for value in values]
    means = [mean for mean in smoothed[200:] if mean is not None]
    assert 0.3 < min(means) < max(means) < 0.7


def test_steps_that_a_resumed_run_repeats_take_the_place_of_the_first(work: Work) -> None:
    job_id, other = work.submit(), work.submit()
    first, again = run_of(1, 24_000, seed=1), run_of(17_001, 30_000, seed=2)
    fence = work.run(job_id)
    write(work, job_id, fence, first | {18_001: {"loss": 900.0, "gone": 1.0}})
    write(work, job_id, fence, again)
    once = {step: values for step, values in first.items() if step < 17_001} | again
    write(work, other, work.run(other), once)
    rows = kept(work)
    mine, theirs = ([row | {"job_id": ""} for row in rows if row["job_id"] == of] for of in (job_id, other))
    assert mine == theirs
    assert {row["size"] for row in mine} == {32, 128, 512, 2048, 8192}


def test_a_run_that_ended_before_where_a_lost_attempt_had_come_to_keeps_nothing_of_what_lies_beyond(work: Work) -> None:
    job_id, other = work.submit(), work.submit()
    told, last = run_of(1, 24_000), 20_001
    write(work, job_id, work.run(job_id), told)
    write(work, job_id, 1, run_of(1, 24_000), split="eval")
    work.write(records.end_at, job_id, last)
    fence = work.run(other)
    for split in ("train", "eval"):
        write(work, other, fence, {step: values for step, values in told.items() if step <= last}, split=split)
    of_one, of_other = ([row | {"job_id": ""} for row in kept(work) if row["job_id"] == id_] for id_ in (job_id, other))
    assert of_one == of_other
    assert shown(work, job_id).points == shown(work, other).points


def test_an_upgrade_makes_the_stretches_that_would_have_been_kept(work: Work) -> None:
    job_id = work.submit()
    fence = work.run(job_id)
    write(work, job_id, fence, run_of(1, 20_000))
    write(work, job_id, fence, run_of(1, 18_000, seed=3), split="eval")
    before = kept(work)
    released = migrate.history()
    url = work.database.url
    work.database.close()
    (made,) = (at for at, revision in enumerate(released) if revision.endswith("_stretches"))
    migrate.downgrade(url, released[made - 1])
    migrate.upgrade(url)
    assert kept(work) == before
    assert len({row["split"] for row in before}) == 2
