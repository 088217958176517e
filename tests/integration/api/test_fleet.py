"""Workers and the queue: who is there, what waits, why, and until when."""

import time
from typing import Any

import pytest

from api import projects as operator
from db import projects, records, workers
from tests.integration.api.live import Live, claimed, settled, submitted


def beat(live: Live, name: str, **changes: Any) -> None:
    told: dict[str, Any] = {"host": "here", "pid": 7, "device": "cpu (2 cores)", "memory_bytes": 2**31}
    told |= {"heartbeat_s": 60.0, "started_at": 1.0}
    with live.database.write() as session:
        workers.beat(session, workers.Advert(name=name, **(told | changes)))


def show(live: Live, job_id: str) -> dict[str, Any]:
    return live.mine.get(f"/v1/jobs/{job_id}").json()


@pytest.fixture
def busy(live: Live):
    """The one worker there is holds a job that says it ends in 100 s."""
    live_jobs = live.mine.get("/v1/jobs", params={"status": "queued", "limit": 100}).json()["data"]
    for job in live_jobs:
        live.mine.post(f"/v1/jobs/{job['id']}/cancel")
    beat(live, "tests")
    job_id = submitted(live)
    fence = claimed(live, job_id)
    told = {"split": "train", "step": 1, "values": {"loss": 1.0, "eta_s": 100.0}, "created_at": time.time()}
    with live.database.write() as session:
        assert records.append(session, job_id, fence, events=[], metrics=[told], lease_s=60)
    yield job_id
    settled(live, job_id, fence)
    with live.database.write() as session:
        workers.forget(session, -1)


def test_a_worker_is_shown_with_what_it_runs(live: Live, busy: str):
    (row,) = live.mine.get("/v1/workers").json()["data"]
    assert {key: row[key] for key in ("id", "host", "pid", "device", "memory_bytes", "state", "job_id")} == {
        "id": "tests", "host": "here", "pid": 7, "device": "cpu (2 cores)", "memory_bytes": 2**31,
        "state": "busy", "job_id": busy,
    }  # fmt: skip
    assert (row["labels"], row["gpus"]) == ({}, 0)
    assert row["heartbeat_at"] == pytest.approx(time.time(), abs=5)


def test_another_project_is_not_told_whose_job_a_worker_runs(live: Live, busy: str):
    (row,) = live.theirs.get("/v1/workers").json()["data"]
    assert (row["state"], row["job_id"]) == ("busy", None)


def test_a_waiting_job_says_what_it_waits_for_and_when_it_should_start(live: Live, busy: str):
    first, second = submitted(live), submitted(live)
    assert show(live, first)["waiting_reason"] == "no worker is free: 1 job runs, it is next"
    told = show(live, second)
    assert (told["queue_position"], told["waiting_reason"]) == (2, "no worker is free: 1 job runs, 1 is ahead")
    assert show(live, first)["estimated_start_at"] == pytest.approx(time.time() + 100, abs=5)
    assert told["estimated_start_at"] == pytest.approx(time.time() + 200, abs=15)


def test_a_job_that_a_free_worker_takes_says_so(live: Live, busy: str):
    beat(live, "another")
    told = show(live, submitted(live))
    assert told["waiting_reason"] == "it is next: the first free worker takes it"
    assert told["estimated_start_at"] == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"labels": {"gpu": "h100"}}, "it needs a worker with gpu=h100, and none is alive; others go ahead meanwhile"),
        ({"device": "cuda"}, "it needs a worker with device=cuda, and none is alive; others go ahead meanwhile"),
        ({"num_nodes": 3}, "it needs 3 workers at once, and 2 are alive; others go ahead meanwhile"),
        ({"num_nodes": 2}, "it needs 2 workers at once; of 2 that are alive 1 are free"),
    ],
)
def test_a_job_that_asks_for_other_workers_or_more_says_so(
    live: Live, busy: str, resources: dict[str, Any], reason: str
):
    beat(live, "another", labels={"device": "cpu"})
    told = show(live, submitted(live, resources=resources))
    assert told["waiting_reason"] == reason
    assert (told["estimated_start_at"] is None) == ("others go ahead" in reason)
    live.mine.post(f"/v1/jobs/{told['id']}/cancel")


def test_a_job_for_several_workers_says_so_wherever_it_stands(live: Live, busy: str):
    for name in ("another", "a third"):
        beat(live, name)
    ahead = submitted(live, resources={"priority": 5})
    told = show(live, submitted(live, resources={"num_nodes": 2}))
    assert told["queue_position"] == 2
    reason = "it needs 2 workers at once; of 3 that are alive 2 are free, and 1 job is ahead"
    assert told["waiting_reason"] == reason
    for job_id in (ahead, told["id"]):
        live.mine.post(f"/v1/jobs/{job_id}/cancel")


def test_a_job_that_its_projects_limit_keeps_waiting_says_so(live: Live, busy: str, monkeypatch, capsys):
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", live.database.url)
    with live.database.read() as session:
        project = projects.get(session, live.project_id)
    assert project is not None
    assert operator.main(["limit", project.name, "--max-running-jobs", "1"]) == 0
    assert f"{project.name}\t1\t1\n" in capsys.readouterr().out
    beat(live, "another")
    told = show(live, submitted(live))
    assert told["waiting_reason"] == "project limit: 1 of at most 1 jobs of the project run, 0 wait ahead"
    assert told["estimated_start_at"] == pytest.approx(time.time() + 100, abs=5)
    assert operator.main(["limit", project.name, "--max-running-jobs", "-1"]) == 0
    assert show(live, told["id"])["waiting_reason"] == "it is next: the first free worker takes it"


def test_an_unknown_project_is_told_to_the_operator(live: Live, monkeypatch, capsys):
    monkeypatch.setenv("TRAINYARD_DATABASE_URL", live.database.url)
    assert operator.main(["limit", "nobody", "--share", "2"]) == 1
    assert "there is no project 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--share", "0"], ["--max-running-jobs", "-2"], ["--share", "x"]])
def test_a_limit_that_means_nothing_is_refused(wrong: list[str], capsys):
    with pytest.raises(SystemExit):
        operator.main(["limit", "default", *wrong])
    assert "error" in capsys.readouterr().err


def test_the_queue_shows_this_projects_waiting_jobs_in_their_order(live: Live, busy: str):
    low, high = submitted(live), submitted(live, resources={"priority": 5})
    told = live.mine.get("/v1/queue").json()
    assert [job["id"] for job in told["data"]] == [high, low]
    assert [job["queue_position"] for job in told["data"]] == [1, 2]
    assert (told["waiting"], told["running"], told["workers_alive"], told["workers_free"]) == (2, 1, 1, 0)
    others = live.theirs.get("/v1/queue").json()
    assert (others["waiting"], others["data"]) == (2, [])


def test_a_page_of_jobs_tells_where_each_stands(live: Live, busy: str):
    made = [submitted(live) for _ in range(3)]
    rows = live.mine.get("/v1/jobs", params={"status": "queued"}).json()["data"]
    assert {row["id"]: row["queue_position"] for row in rows} == {job_id: n for n, job_id in enumerate(made, 1)}
