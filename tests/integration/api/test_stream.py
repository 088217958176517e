"""The live stream: replay by number, news as they come, and an end."""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from cli.stream import lines_of
from db import orders, records
from tests.integration.api.live import Live, client, settled, started, submitted, until


def log(session, job_id: str, fence: int, *messages: str) -> None:
    told = [
        {"type": "log", "level": "info", "message": message, "data": {}, "created_at": float(n)}
        for n, message in enumerate(messages)
    ]
    assert records.append(session, job_id, fence, events=told, metrics=[], lease_s=60)


def frames(answer: httpx.Response) -> Iterator[tuple[str | None, str]]:
    """(id, data) of each frame."""
    number = None
    for line in lines_of(answer):
        if line.startswith("id: "):
            number = line[4:]
        elif line.startswith("data: "):
            yield number, line[6:]
            number = None


def ended_job(live: Live, events: int) -> str:
    job_id, fence = started(live)
    with live.database.write() as session:
        log(session, job_id, fence, *map(str, range(events)))
    settled(live, job_id, fence)
    return job_id


def followed(live: Live, job_id: str, **arguments) -> list[tuple[str | None, str]]:
    with live.mine.stream("GET", f"/v1/jobs/{job_id}/stream", **arguments) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(frames(answer))


def test_an_ended_job_is_replayed_whole_and_the_stream_ends(live: Live):
    told = followed(live, ended_job(live, 1200))
    assert told[-1] == (None, "[DONE]")
    records_ = [json.loads(data) for _, data in told[:-1]]
    assert [record["seq"] for record in records_] == list(range(1, len(records_) + 1))
    assert [number for number, _ in told[:-1]] == [str(record["seq"]) for record in records_]
    assert [r["message"] for r in records_ if r["type"] == "log"] == [str(n) for n in range(1200)]
    assert records_[0]["type"] == "created"


@pytest.mark.parametrize("arguments", [{"params": {"after": 5}}, {"headers": {"Last-Event-ID": "5"}}])
def test_a_stream_goes_on_after_the_number_that_the_client_has(live: Live, arguments):
    told = followed(live, ended_job(live, 10), **arguments)
    assert json.loads(told[0][1])["seq"] == 6


def test_a_client_that_reconnects_is_believed_before_the_url(live: Live):
    arguments = {"params": {"after": 2}, "headers": {"Last-Event-ID": "7"}}
    assert json.loads(followed(live, ended_job(live, 10), **arguments)[0][1])["seq"] == 8


def test_metrics_have_their_step_split_and_values(live: Live):
    job_id, fence = started(live)
    metric = {"split": "eval", "step": 3, "values": {"eval_loss": 1.5}, "created_at": 1.0}
    with live.database.write() as session:
        records.append(session, job_id, fence, events=[], metrics=[metric], lease_s=60)
    settled(live, job_id, fence)
    told = [json.loads(data) for _, data in followed(live, job_id) if data != "[DONE]"]
    metrics = next(record for record in told if record["type"] == "metrics")
    assert (metrics["split"], metrics["step"], metrics["values"]) == ("eval", 3, {"eval_loss": 1.5})


def test_news_reach_every_follower_as_they_come(live: Live):
    job_id, fence = started(live)
    seen: list[list[str]] = [[], []]

    def follow(into: list[str]) -> None:
        into.extend(data for _, data in followed(live, job_id))

    threads = [threading.Thread(target=follow, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    feed = live.service.feed
    until(lambda: feed.followers(job_id) == 2)
    for n in range(3):
        with live.database.write() as session:
            log(session, job_id, fence, f"news {n}")
    settled(live, job_id, fence)
    for thread in threads:
        thread.join(10)
    assert seen[0] == seen[1]
    assert [json.loads(data).get("message") for data in seen[0][:-1]][-4:-1] == ["news 0", "news 1", "news 2"]
    assert seen[0][-1] == "[DONE]"
    until(lambda: not feed.followers(job_id))


def test_a_follower_that_goes_away_is_forgotten(live: Live):
    job_id = submitted(live)
    with live.mine.stream("GET", f"/v1/jobs/{job_id}/stream") as answer:
        told = frames(answer)
        next(told)
        assert live.service.feed.followers(job_id) == 1
    with live.database.write() as session:
        orders.cancel(session, live.project_id, job_id)
    until(lambda: not live.service.feed.followers(job_id))


def test_a_stream_ends_within_a_second_of_its_keys_revocation_and_the_others_go_on(live: Live):
    job_id, fence = started(live)
    made = live.mine.post("/v1/keys", json={"name": "notebook", "scope": "read"}).json()
    seen: list[str] = []
    staying = threading.Thread(target=lambda: seen.extend(data for _, data in followed(live, job_id)))
    staying.start()
    with (
        client(live.url, made["token"]) as using,
        using.stream("GET", f"/v1/jobs/{job_id}/stream") as answer,
    ):
        until(lambda: live.service.feed.followers(job_id) == 2)
        assert live.mine.post(f"/v1/keys/{made['id']}/revoke").status_code == 200
        begun = time.monotonic()
        told = [data for _, data in frames(answer)]
        assert time.monotonic() - begun < 1.5
    assert told[-1:] != ["[DONE]"], "the job has not ended"
    with live.database.write() as session:
        log(session, job_id, fence, "a secret of later")
    settled(live, job_id, fence)
    staying.join(10)
    assert "a secret of later" in [json.loads(data).get("message") for data in seen[:-1]]
    assert "a secret of later" not in "".join(told)


@pytest.mark.parametrize("value", ["-1", "x", "99999999999999999999"])
def test_a_number_that_is_none_is_refused(live: Live, value):
    url = f"/v1/jobs/{submitted(live)}/stream"
    assert live.mine.get(url, params={"after": value}).status_code == 422
    assert live.mine.get(url, headers={"Last-Event-ID": value}).status_code == 422


def test_a_job_of_another_project_has_no_stream(live: Live):
    assert live.theirs.get(f"/v1/jobs/{submitted(live)}/stream").status_code == 404
