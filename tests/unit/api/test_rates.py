"""How often a key may ask."""

import pytest

from api.rates import Rates


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_limit_nothing_is_counted():
    rates = Rates(None)
    assert {rates.wait_s("key-1") for _ in range(1000)} == {None}


@pytest.mark.parametrize("most", [1, 2, 7, 60, 10_000])
def test_a_minutes_requests_may_come_at_once_and_the_next_is_told_when_to_come(most: int):
    clock = Clock()
    rates = Rates(most, clock)
    assert {rates.wait_s("key-1") for _ in range(most)} == {None}
    wait_s = rates.wait_s("key-1")
    assert wait_s is not None
    assert 1 <= wait_s <= 60
    clock.now += wait_s
    assert rates.wait_s("key-1") is None


def test_asking_too_often_does_not_make_the_wait_longer():
    clock = Clock()
    rates = Rates(1, clock)
    assert [rates.wait_s("key-1") for _ in range(5)] == [None, 60, 60, 60, 60]
    clock.now += 59
    assert rates.wait_s("key-1") == 1


def test_over_a_long_time_no_more_get_through_than_the_limit_says():
    clock = Clock()
    rates = Rates(30, clock)
    through = 0
    for _ in range(1440):
        clock.now += 0.25
        through += rates.wait_s("key-1") is None
    assert through == 30 + 6 * 30 - 1  # the last of them is not there yet


def test_each_key_is_counted_for_itself():
    rates = Rates(1, Clock())
    assert rates.wait_s("key-1") is None
    assert rates.wait_s("key-2") is None
    assert rates.wait_s("key-1") == 60


def test_keys_that_have_not_asked_for_long_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.rates._SWEPT_AT", 10)
    clock = Clock()
    rates = Rates(5, clock)
    for number in range(10):
        rates.wait_s(f"key-{number}")
    clock.now += 61
    rates.wait_s("key-new")
    assert list(rates._left) == ["key-new"]
