"""Webhooks over HTTP, from the end of a job or an eval run to a real receiver."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from db import webhooks
from db.receivers import Receivers, read_networks
from db.state import JobState
from db.webhook_secrets import WebhookSecrets
from tests.integration.api.live import SECRET, Live, error, settled, started, submitted, until
from tests.integration.api.test_evals import EVAL, begun, graded, row
from tests.receiver import Receiver, receiving
from workers.courier import Courier

EVENTS = list(webhooks.EVENT_TYPES)


@pytest.fixture(scope="module", autouse=True)
def _loopback_may_be_reached() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINYARD_WEBHOOK_NETWORKS", "127.0.0.1/32")
        patch.setattr("workers.courier._POLL_S", 0.05)
        yield


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def courier(live: Live) -> Iterator[None]:
    with carrying(live):
        yield


@contextmanager
def carrying(live: Live) -> Iterator[None]:
    """While a courier runs."""
    courier = Courier(live.database, WebhookSecrets(SECRET), Receivers(read_networks("127.0.0.1/32")), pause_s=0.05)
    courier.start()
    try:
        yield
    finally:
        courier.stop()


@pytest.fixture
def made(live: Live) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes endpoints, which are gone after the test."""
    ids: list[str] = []

    def make(url: str, event_types: list[str] = EVENTS) -> dict[str, Any]:
        body = {"name": "tests", "url": url, "event_types": event_types}
        answer = live.mine.post("/v1/webhook_endpoints", json=body)
        assert answer.status_code == 200, answer.text
        ids.append(answer.json()["id"])
        return answer.json()

    yield make
    for one in ids:
        live.mine.delete(f"/v1/webhook_endpoints/{one}")


def signs(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether the signature is that of the secret, as the Standard Webhooks specification computes it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}".encode()
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split()


def log(live: Live, endpoint_id: str) -> list[dict[str, Any]]:
    return live.mine.get(f"/v1/webhook_endpoints/{endpoint_id}/deliveries").json()["data"]


def test_the_end_of_a_job_is_told_signed(live: Live, receiver, courier, made):
    endpoint = made(receiver.url)
    job_id, fence = started(live)
    settled(live, job_id, fence)
    (path, headers, body), *_ = receiver.wait(1)
    event = json.loads(body)
    assert (path, event["type"], event["data"]) == ("/hook", "fine_tuning.job.succeeded", {"id": job_id})
    assert signs(endpoint["signing_secret"], headers, body)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_ends_otherwise_is_told_as_such(live: Live, receiver, courier, made, state):
    made(receiver.url)
    job_id, fence = started(live)
    settled(live, job_id, fence, JobState(state))
    assert json.loads(receiver.wait(1)[0][2])["type"] == f"fine_tuning.job.{state}"


def test_a_queued_job_that_is_cancelled_is_told(live: Live, receiver, courier, made):
    made(receiver.url)
    job_id = submitted(live)
    live.mine.post(f"/v1/jobs/{job_id}/cancel")
    event = json.loads(receiver.wait(1)[0][2])
    assert (event["type"], event["data"]["id"]) == ("fine_tuning.job.cancelled", job_id)


def test_the_ends_of_eval_runs_are_told(live: Live, receiver, courier, made):
    made(receiver.url)
    eval_id = live.mine.post("/v1/evals", json=EVAL).json()["id"]
    done, dropped = (begun(live, eval_id, {"type": "file_content", "content": [row(1)]}).json()["id"] for _ in range(2))
    live.mine.post(f"/v1/evals/{eval_id}/runs/{dropped}/cancel")
    graded(live)
    told = {json.loads(body)["data"]["id"]: json.loads(body)["type"] for *_, body in receiver.wait(2)}
    assert told == {done: "eval.run.succeeded", dropped: "eval.run.canceled"}


def test_an_event_that_was_not_asked_for_is_not_told(live: Live, receiver, made):
    endpoint = made(receiver.url, ["eval.run.failed"])
    settled(live, *started(live))
    assert log(live, endpoint["id"]) == []


def test_what_is_rolled_back_is_not_told(live: Live, receiver, made):
    endpoint = made(receiver.url)
    with live.database.write() as session:
        webhooks.announce(session, live.project_id, "eval.run.failed", "evalrun-1")
        session.rollback()
    assert log(live, endpoint["id"]) == []


def test_another_projects_receiver_hears_nothing(live: Live, receiver, courier):
    body = {"name": "theirs", "url": receiver.url, "event_types": EVENTS}
    endpoint = live.theirs.post("/v1/webhook_endpoints", json=body).json()
    settled(live, *started(live))
    assert live.theirs.get(f"/v1/webhook_endpoints/{endpoint['id']}/deliveries").json()["data"] == []
    live.theirs.delete(f"/v1/webhook_endpoints/{endpoint['id']}")


def test_a_failed_delivery_is_tried_again_under_the_same_id(live: Live, receiver, courier, made):
    receiver.answers = [500, 404]
    endpoint = made(receiver.url)
    settled(live, *started(live))
    told = receiver.wait(3)
    assert len({headers["webhook-id"] for _, headers, _ in told}) == 1
    assert len({body for *_, body in told}) == 1
    until(lambda: log(live, endpoint["id"])[0]["status"] == "delivered")
    (entry,) = log(live, endpoint["id"])
    assert (entry["attempts"], entry["status_code"], entry["error"], entry["id"]) == (
        3, 200, None, told[0][1]["webhook-id"],
    )  # fmt: skip


def test_a_delivery_whose_time_is_over_has_failed(live: Live, receiver, courier, made, monkeypatch):
    monkeypatch.setattr(webhooks, "_GIVE_UP_S", 0.0)
    receiver.answers = [503]
    endpoint = made(receiver.url)
    settled(live, *started(live))
    until(lambda: log(live, endpoint["id"])[0]["status"] == "failed")
    (entry,) = log(live, endpoint["id"])
    assert (entry["attempts"], entry["status_code"], entry["error"]) == (1, 503, "it answered 503")


def test_a_slow_receiver_holds_up_no_other(live: Live, receiver, courier, made):
    with receiving() as slow:
        slow.pause_s = 3.0
        made(slow.url)
        for _ in range(5):
            settled(live, *started(live))
        slow.wait(2)
        made(receiver.url)
        began = time.monotonic()
        settled(live, *started(live))
        receiver.wait(1)
        assert time.monotonic() - began < 2.5
        assert len(slow.taken) == 2  # no more at once to one endpoint


def test_two_couriers_deliver_each_once(live: Live, receiver, made):
    made(receiver.url)
    for _ in range(10):
        settled(live, *started(live))
    with carrying(live), carrying(live):
        receiver.wait(10, 20)
        time.sleep(0.7)
    assert len(receiver.taken) == len({headers["webhook-id"] for _, headers, _ in receiver.taken}) == 10


def test_what_a_courier_that_died_had_taken_is_delivered(live: Live, receiver, made):
    endpoint = made(receiver.url)
    settled(live, *started(live))
    room = webhooks.Room(9, 9)
    with live.database.write() as session:
        (taken,) = webhooks.take(session, webhooks.ready(session, room, {}, limit=9), hold_s=0.2)
    with carrying(live):
        assert receiver.wait(1)[0][1]["webhook-id"] == taken.id
    with live.database.write() as session:  # and the dead one's late word changes nothing
        webhooks.settle(session, taken, status_code=None, error="late", pause_s=1)
    assert log(live, endpoint["id"])[0]["status"] == "delivered"


def test_no_secret_is_told_again_or_stored(live: Live, receiver, made):
    endpoint = made(receiver.url)
    secret = endpoint["signing_secret"]
    url = f"/v1/webhook_endpoints/{endpoint['id']}"
    shown = live.mine.get(url).json()
    assert shown == {name: value for name, value in endpoint.items() if name != "signing_secret"}
    assert shown["signing_secret_hint"] == f"whsec_...{secret[-4:]}"
    with live.database.read() as session:
        kept = str(session.execute(text("SELECT * FROM webhook_endpoints")).all())
        kept += str(session.execute(text("SELECT * FROM intents")).all())
    assert endpoint["id"] in kept
    assert secret.removeprefix("whsec_") not in kept


def test_a_create_that_comes_again_makes_one_endpoint_and_tells_its_secret(live: Live, receiver):
    body = {"name": "again", "url": receiver.url, "event_types": ["eval.run.failed"]}
    first, second = (
        live.mine.post("/v1/webhook_endpoints", json=body, headers={"Idempotency-Key": "hook"}).json() for _ in "ab"
    )
    assert first == second
    live.mine.delete(f"/v1/webhook_endpoints/{first['id']}")


@pytest.mark.parametrize("keep", [True, False])
def test_a_new_secret_signs_and_the_old_one_if_it_is_kept(live: Live, receiver, courier, made, keep):
    endpoint = made(receiver.url)
    url = f"/v1/webhook_endpoints/{endpoint['id']}"
    body = {"keep_old_secret_active_for_24_hours": keep}
    rotated = live.mine.post(f"{url}/rotate_secret", json=body).json()
    settled(live, *started(live))
    _, headers, sent = receiver.wait(1)[0]
    assert rotated["signing_secret"] != endpoint["signing_secret"]
    assert signs(rotated["signing_secret"], headers, sent)
    assert signs(endpoint["signing_secret"], headers, sent) is keep


def test_a_changed_endpoint_is_told_there(live: Live, receiver, courier, made):
    endpoint = made("http://127.0.0.1:1/nobody")
    url = f"/v1/webhook_endpoints/{endpoint['id']}"
    changed = live.mine.post(url, json={"url": receiver.url, "name": "moved"}).json()
    assert (changed["name"], changed["url"], changed["event_types"]) == ("moved", receiver.url, EVENTS)
    settled(live, *started(live))
    receiver.wait(1)


def test_a_deleted_endpoint_is_told_nothing_more(live: Live, receiver, made):
    endpoint = made(receiver.url)
    settled(live, *started(live))
    gone = live.mine.delete(f"/v1/webhook_endpoints/{endpoint['id']}")
    assert gone.json() == {"object": "webhook_endpoint.deleted", "id": endpoint["id"], "deleted": True}
    with carrying(live):
        time.sleep(0.8)
    assert receiver.taken == []
    error(live.mine.get(f"/v1/webhook_endpoints/{endpoint['id']}"), 404)


def test_a_sample_tells_what_the_receiver_answers(live: Live, receiver, courier, made):
    receiver.answers = [418]
    endpoint = made(receiver.url, ["eval.run.failed"])
    url = f"/v1/webhook_endpoints/{endpoint['id']}/test"
    told = live.mine.post(url, json={"event_type": "fine_tuning.job.failed"}).json()
    assert (told["status_code"], told["success"], told["event_type"]) == (418, True, "fine_tuning.job.failed")
    assert json.loads(receiver.taken[0][2])["data"] == {"id": "sample"}
    assert [entry["status"] for entry in log(live, endpoint["id"])] == ["failed"]


def test_a_sample_that_does_not_arrive_is_the_callers_error(live: Live, courier, made):
    endpoint = made("http://127.0.0.1:1/")
    answer = live.mine.post(f"/v1/webhook_endpoints/{endpoint['id']}/test", json={"event_type": "eval.run.failed"})
    assert error(answer, 400)["code"] == "receiver_unreachable"


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://10.0.0.1/", "ftp://a/", "https://u:p@example.com/"])
def test_a_url_that_nothing_is_sent_to_is_refused_at_once(live: Live, url):
    body = {"name": "bad", "url": url, "event_types": EVENTS}
    told = error(live.mine.post("/v1/webhook_endpoints", json=body), 400)
    assert (told["code"], told["param"]) == ("url_not_allowed", "url")


def test_an_event_that_does_not_happen_here_is_refused_with_those_that_do(live: Live):
    body = {"name": "bad", "url": "https://example.com/", "event_types": ["batch.completed"]}
    told = error(live.mine.post("/v1/webhook_endpoints", json=body), 422)
    assert told["param"] == "event_types[0]"
    assert "fine_tuning.job.succeeded" in told["message"] + str(told["errors"])


def test_a_project_has_no_more_endpoints_than_it_may(live: Live, made, monkeypatch):
    monkeypatch.setattr("api.openai.webhooks.service._MOST", 2)
    for _ in range(2):
        made("https://example.com/")
    body = {"name": "one more", "url": "https://example.com/", "event_types": EVENTS}
    assert error(live.mine.post("/v1/webhook_endpoints", json=body), 400)["code"] == "too_many_webhooks"


def test_the_log_of_what_ended_long_ago_is_dropped(live: Live, receiver, courier, made):
    endpoint = made(receiver.url)
    settled(live, *started(live))
    until(lambda: log(live, endpoint["id"])[0]["status"] == "delivered")
    with live.database.write() as session:
        assert webhooks.purge(session, 60) == 0
        assert webhooks.purge(session, -1) >= 1
    assert log(live, endpoint["id"]) == []


def test_samples_to_a_slow_receiver_are_bounded_and_none_is_the_services_fault(live: Live, receiver, courier, made):
    receiver.pause_s = 15.0
    endpoint = made(receiver.url)
    url = f"/v1/webhook_endpoints/{endpoint['id']}/test"

    def sample(_: int) -> Any:
        return live.mine.post(url, json={"event_type": "eval.run.failed"})

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(sample, range(3)))
    assert all(answer.status_code in {200, 400, 429} for answer in answers)
    (busy,) = [answer for answer in answers if answer.status_code == 429]
    assert (error(busy, 429)["code"], busy.headers["retry-after"]) == ("deliveries_under_way", "30")
    assert len(log(live, endpoint["id"])) == 2


def test_a_sample_that_waits_for_deliveries_under_way_is_told_so(live: Live, receiver, courier, made, monkeypatch):
    monkeypatch.setattr("api.openai.webhooks.service._BEGUN_S", 0.5)
    receiver.pause_s = 5.0
    endpoint = made(receiver.url)
    for _ in range(2):
        settled(live, *started(live))
    receiver.wait(2)
    answer = live.mine.post(f"/v1/webhook_endpoints/{endpoint['id']}/test", json={"event_type": "eval.run.failed"})
    assert error(answer, 429)["code"] == "deliveries_under_way"


def test_a_change_is_in_the_audit_log_with_the_new_host_and_no_more_of_the_url(live: Live, made):
    endpoint = made("https://example.com/first")
    live.mine.post(f"/v1/webhook_endpoints/{endpoint['id']}", json={"url": "https://example.org:8443/secret?key=1"})
    entries = live.mine.get("/v1/audit", params={"object_id": endpoint["id"]}).json()["data"]
    assert [(entry["action"], entry["details"]) for entry in entries] == [
        ("webhook.update", {"changed": ["url"], "host": "example.org:8443"}),
        ("webhook.create", {"host": "example.com"}),
    ]
