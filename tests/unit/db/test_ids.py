"""Ids: unique, and sorted by the time they were made."""

import re
import threading
import time

import pytest

from db import ids


def test_an_id_is_its_prefix_and_26_crockford_digits():
    assert re.fullmatch(r"job-[0-9a-hjkmnp-tv-z]{26}", ids.new_id("job"))


def test_ids_sort_in_the_order_they_were_made():
    made = [ids.new_id("job") for _ in range(10_000)]
    assert made == sorted(set(made))


def test_ids_sort_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch):
    first = ids.new_id("job")
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert ids.new_id("job") > first


def test_threads_never_make_the_same_id():
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([ids.new_id("x") for _ in range(500)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000
