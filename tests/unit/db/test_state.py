"""The table of legal changes, pair by pair."""

import itertools

import pytest

from db.state import ENDED, HELD, LEGAL, JobState, sources

ALLOWED = {
    "queued": "preparing paused cancelled failed",
    "preparing": "running paused queued failed cancelled",
    "running": "pausing succeeded failed cancelled queued",
    "pausing": "paused running succeeded failed cancelled",
    "paused": "queued cancelled",
    "succeeded": "",
    "failed": "queued",
    "cancelled": "",
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobState, JobState)))
def test_a_change_is_legal_exactly_when_the_design_names_it(before: JobState, after: JobState):
    assert (after in LEGAL[before]) == (after.value in ALLOWED[before].split())


@pytest.mark.parametrize("target", list(JobState))
def test_the_sources_of_a_state_are_those_that_name_it(target: JobState):
    assert sources(target) == {before for before in JobState if target in LEGAL[before]}


def test_every_state_is_waiting_or_held_or_ended():
    assert {JobState.QUEUED, JobState.PAUSED} | HELD | ENDED == set(JobState)


def test_from_an_end_a_job_can_only_be_queued_again():
    assert {following for state in ENDED for following in LEGAL[state]} == {JobState.QUEUED}
