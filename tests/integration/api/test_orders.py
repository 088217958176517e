"""What an owner asks of a job over HTTP: to stop, to pause, to go on, to be tried again."""

import pytest

from db.state import JobState
from tests.integration.api.live import Live, error, published, settled, started, submitted


def test_a_waiting_job_is_cancelled_at_once_and_asking_again_changes_nothing(live: Live):
    job_id = submitted(live)
    assert live.mine.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert live.mine.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"


def test_a_running_job_is_asked_to_stop(live: Live):
    job_id, _ = started(live)
    job = live.mine.post(f"/v1/jobs/{job_id}/cancel").json()
    assert (job["status"], job["cancel_requested"]) == ("running", True)
    assert "being cancelled" in job["waiting_reason"]


def test_a_job_that_ended_by_itself_cannot_be_cancelled(live: Live):
    made = published(live, "ended", {"a": b"1"})
    answer = live.mine.post(f"/v1/jobs/{made.job_id}/cancel")
    assert error(answer, 409)["code"] == "job_ended"
    assert answer.headers["x-should-retry"] == "false"


def test_a_waiting_job_is_paused_at_once_and_waits_again_when_it_is_resumed(live: Live):
    job_id = submitted(live)
    job = live.mine.post(f"/v1/jobs/{job_id}/pause").json()
    assert (job["status"], job["queue_position"], job["waiting_reason"]) == (
        "paused",
        None,
        "it is paused until it is resumed",
    )
    assert live.mine.get("/v1/jobs", params={"status": "paused"}).json()["data"][0]["id"] == job_id
    assert live.mine.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "queued"


def test_a_running_job_is_asked_to_pause_and_the_pause_can_be_taken_back(live: Live):
    job_id, _ = started(live)
    assert live.mine.post(f"/v1/jobs/{job_id}/pause").json()["status"] == "pausing"
    assert live.mine.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "running"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_job_that_ended_can_neither_be_paused_nor_resumed(live: Live, verb):
    job_id = submitted(live)
    live.mine.post(f"/v1/jobs/{job_id}/cancel")
    refused = error(live.mine.post(f"/v1/jobs/{job_id}/{verb}"), 409)
    assert (refused["code"], refused["message"]) == (
        "job_ended",
        f"the job has already been cancelled; there is nothing to {verb}",
    )


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_job_that_is_to_stop_can_neither_be_paused_nor_resumed(live: Live, verb):
    job_id, _ = started(live)
    live.mine.post(f"/v1/jobs/{job_id}/cancel")
    assert error(live.mine.post(f"/v1/jobs/{job_id}/{verb}"), 409)["code"] == "job_cancelling"


def test_a_failed_job_is_tried_again_when_its_owner_asks(live: Live):
    job_id, fence = started(live)
    settled(live, job_id, fence, JobState.FAILED)
    job = live.mine.post(f"/v1/jobs/{job_id}/retry").json()
    assert (job["status"], job["finished_at"], job["error"]) == ("queued", None, None)


def test_a_job_that_did_not_fail_cannot_be_tried_again(live: Live):
    job_id, fence = started(live)
    settled(live, job_id, fence)
    assert error(live.mine.post(f"/v1/jobs/{job_id}/retry"), 409)["code"] == "job_ended"
