"""GET /v1/jobs/{id}/metrics/{metric}: a figure over the steps, as a chart takes it."""

import pytest

from db import records
from tests.integration.api.live import Live, started


def train(step: int, **values: float | None) -> dict:
    return {"split": "train", "step": step, "values": {"tokens": step * 10.0, **values}, "created_at": 1000.0 + step}


@pytest.fixture(scope="module")
def job_id(live: Live) -> str:
    job_id, fence = started(live)
    figures = [train(step, loss=4.0 / step, **{"rewards/chosen": 0.5}) for step in range(1, 4001)]
    figures[2222] = train(2223, loss=77.0)
    figures[3000] = train(3001, loss=None)
    with live.database.write() as session:
        assert records.append(session, job_id, fence, events=[], metrics=figures, lease_s=60)
    return job_id


def shown(live: Live, job_id: str, metric: str = "loss", **asked: object) -> dict:
    answer = live.mine.get(f"/v1/jobs/{job_id}/metrics/{metric}", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_long_curve_comes_thinned_with_its_spike_and_its_gap(live: Live, job_id: str):
    told = shown(live, job_id, points=200)
    assert (told["total"], told["step"][0], told["step"][-1]) == (4000, 1, 4000)
    assert len(told["step"]) <= 210
    assert told["value"][told["step"].index(2223)] == 77.0
    assert told["value"][told["step"].index(3001)] is None


def test_every_column_has_an_entry_for_every_step(live: Live, job_id: str):
    told = shown(live, job_id, points=20_000)
    assert {len(told[name]) for name in ("step", "time", "tokens", "value")} == {4000}
    assert (told["time"][4], told["tokens"][4], told["value"][4]) == (1005.0, 50.0, 0.8)


def test_smoothing_is_that_of_the_whole_run_however_few_points_are_asked_for(live: Live, job_id: str):
    whole = shown(live, job_id, points=20_000, smoothing=0.9)
    few = shown(live, job_id, points=50, smoothing=0.9)
    at = dict(zip(whole["step"], whole["smoothed"], strict=True))
    assert few["smoothed"] == [at[step] for step in few["step"]]


def test_a_figure_whose_name_holds_a_slash_is_found(live: Live, job_id: str):
    told = shown(live, job_id, "rewards/chosen", points=20_000)
    assert set(told["value"]) == {0.5}
    assert told["total"] == 3998


def test_a_figure_that_was_never_told_has_no_points(live: Live, job_id: str):
    assert shown(live, job_id, "accuracy")["step"] == []
    assert shown(live, job_id, split="eval")["step"] == []


def test_a_stream_goes_on_where_the_curve_ends(live: Live, job_id: str):
    assert (
        shown(live, job_id, points=2)["last_seq"]
        == live.mine.get(f"/v1/jobs/{job_id}/metrics", params={"after": 3999}).json()["data"][0]["seq"]
    )
