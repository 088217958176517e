"""The expected time left of a run."""

import pytest

from engine import pace
from engine.pace import Pace


class Clock:
    """A clock that shows the time that it is set to."""

    now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def spend(of: Pace, clock: Clock, part: pace.Part, *seconds: float) -> None:
    for each in seconds:
        clock.now_s += each
        of.ended(part)


def test_steps_evaluations_and_saves_are_each_reckoned_with_their_own_time(clock: Clock) -> None:
    run = Pace()
    spend(run, clock, "step", 1.0, 1.0)
    spend(run, clock, "evaluation", 5.0)
    spend(run, clock, "save", 3.0)
    spend(run, clock, "step", 1.0)
    assert run.left_s({"step": 10, "evaluation": 2, "save": 1}) == pytest.approx(10 + 10 + 3)


def test_the_first_step_which_warms_up_is_forgotten_with_the_second(clock: Clock) -> None:
    run = Pace()
    spend(run, clock, "step", 60.0)
    assert run.left_s({"step": 2}) == pytest.approx(120.0)
    spend(run, clock, "step", 1.0)
    assert run.left_s({"step": 2}) == pytest.approx(2.0)


def test_a_run_that_slows_down_is_soon_reckoned_with_its_new_time(clock: Clock) -> None:
    run = Pace()
    spend(run, clock, "step", *[1.0] * 100)
    spend(run, clock, "step", *[2.0] * 100)
    assert run.left_s({"step": 1}) == pytest.approx(1.75, rel=0.01)


def test_steps_of_uneven_length_give_a_steady_answer(clock: Clock) -> None:
    run = Pace()
    spend(run, clock, "step", *[0.5, 1.5] * 50)
    told = []
    for each in [0.5, 1.5] * 10:
        spend(run, clock, "step", each)
        told.append(run.left_s({"step": 100}))
    assert max(told) - min(told) < 2.0
