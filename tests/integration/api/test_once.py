"""One submission, one job: what is asked again because its answer was lost makes nothing new."""

import asyncio
import os
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from db import jobs
from db.idempotency import PAUSES_S, WAITS_S
from db.models import Intent
from tests.integration.api.live import Live, pretrain_spec, published, text_file, upload
from tests.integration.api.lossy import lossy

INTENTS = int(os.environ.get("TRAINYARD_STORM", "60"))
"""`make conformance` has a thousand."""
TRIES = 20


@pytest.fixture(scope="module")
def spec(live: Live) -> dict[str, Any]:
    return pretrain_spec(text_file(live.mine))


def made(live: Live, spec: dict[str, Any], path: str = "/v1/jobs", **headers: str) -> httpx.Response:
    return live.mine.post(path, json=spec, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_key_gives_the_first_answer_again(live: Live, spec):
    first = made(live, spec, idempotency_key="k1")
    again = made(live, spec, idempotency_key="k1")
    assert (first.status_code, again.content) == (201, first.content)
    assert made(live, spec, idempotency_key="k2").json()["id"] != first.json()["id"]


def test_a_key_for_another_body_is_refused(live: Live, spec):
    made(live, spec, idempotency_key="k3")
    answer = made(live, spec | {"seed": 1}, idempotency_key="k3")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_is_neither_empty_nor_endless(live: Live, spec, key):
    assert made(live, spec, idempotency_key=key).json()["error"]["code"] == "invalid_idempotency_key"


def test_a_key_is_its_owners_alone(live: Live, spec):
    made(live, spec, idempotency_key="k4")
    theirs = pretrain_spec(text_file(live.theirs))
    assert live.theirs.post("/v1/jobs", json=theirs, headers={"Idempotency-Key": "k4"}).status_code == 201


def test_what_was_refused_may_be_mended_under_its_key(live: Live, spec):
    assert made(live, spec | {"training_file": "file-none"}, idempotency_key="k5").status_code == 404
    assert made(live, spec, idempotency_key="k5").status_code == 201


def test_a_retry_without_a_key_gets_the_job_of_the_first_try(live: Live, spec):
    body = spec | {"seed": 100}
    first = made(live, body, x_stainless_retry_count="0").json()["id"]
    assert made(live, body, x_stainless_retry_count="1").json()["id"] == first
    assert made(live, body, x_stainless_retry_count="2").json()["id"] == first


def test_the_same_asked_twice_and_never_retried_is_two_jobs(live: Live, spec):
    body = spec | {"seed": 101}
    ids = {made(live, body, x_stainless_retry_count="0").json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_retry_that_overtakes_its_first_try_makes_the_one_job(live: Live, spec):
    body = spec | {"seed": 102}
    first = made(live, body, x_stainless_retry_count="1").json()["id"]
    assert made(live, body, x_stainless_retry_count="0").json()["id"] == first
    assert made(live, body, x_stainless_retry_count="0").json()["id"] != first


def test_what_was_made_before_the_first_try_can_have_been_sent_answers_no_retry(live: Live, spec):
    body = spec | {"seed": 103}
    first = made(live, body, x_stainless_retry_count="0").json()["id"]
    aged(live, first, WAITS_S + PAUSES_S + 60)
    assert made(live, body, x_stainless_retry_count="2").json()["id"] == first
    aged(live, first, WAITS_S + PAUSES_S)
    patient = {"x_stainless_retry_count": "1", "x_stainless_read_timeout": "1800"}
    assert made(live, body, **patient).json()["id"] == first
    assert made(live, body, x_stainless_retry_count="2").json()["id"] != first


def test_a_first_try_that_never_arrived_is_not_waited_for_longer_than_clients_wait(live: Live, spec):
    body = spec | {"seed": 104}
    first = made(live, body, x_stainless_retry_count="1").json()["id"]
    aged(live, first, WAITS_S + 1)
    assert made(live, body, x_stainless_retry_count="0").json()["id"] != first


@pytest.mark.parametrize("told", ["", "None", "nan", "-1", "1e999", "0"])
def test_however_a_client_says_how_long_it_waits_it_is_taken(live: Live, spec, told: str):
    body = spec | {"seed": 105, "suffix": f"waits-{told}".rstrip("-")}
    given = {"x_stainless_read_timeout": told}
    first = made(live, body, x_stainless_retry_count="0", **given).json()["id"]
    assert made(live, body, x_stainless_retry_count="1", **given).json()["id"] == first


@pytest.mark.parametrize(("told", "again"), [("", False), ("000", False), ("one", True), ("9" * 5000, True)])
def test_whatever_a_client_calls_its_retry_is_taken(live: Live, spec, told: str, again: bool):
    body = spec | {"seed": 106, "suffix": f"told-{len(told)}-{again}"}
    first = made(live, body, x_stainless_retry_count="0").json()["id"]
    assert (made(live, body, x_stainless_retry_count=told).json()["id"] == first) is again


def aged(live: Live, job_id: str, seconds: float) -> None:
    """The create of this job was so much longer ago."""
    with live.database.write() as session:
        intent = session.scalars(select(Intent).where(Intent.answer.contains(job_id))).one()
        intent.created_at -= seconds


@pytest.mark.parametrize("keyed", [False, True])
def test_creates_whose_answers_are_lost_make_a_job_each(live: Live, keyed):
    published(live, "stormed", {"config.json": b"{}"})
    marker = f"storm-{keyed}"
    body = {"model": "stormed", "training_file": upload(live.mine).json()["id"]}
    port = int(live.url.rpartition(":")[2])

    async def intend(client: httpx.AsyncClient, number: int) -> str:
        """As OpenAI's clients do: the same again, with the number of the retry and, if asked to, a key."""
        asked = body | {"metadata": {"intent": str(number), "storm": marker}}
        for count in range(TRIES):
            headers = {"x-stainless-retry-count": str(count)} | (
                {"Idempotency-Key": f"{marker}-{number}"} if keyed else {}
            )
            try:
                answer = await client.post("/v1/fine_tuning/jobs", json=asked, headers=headers)
            except httpx.TransportError:
                continue
            assert answer.status_code == 200, answer.text
            return answer.json()["id"]
        raise AssertionError("every answer was lost")

    async def storm(url: str) -> list[str]:
        limits = httpx.Limits(max_connections=None)
        headers = {"Authorization": live.mine.headers["authorization"]}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=120, trust_env=False
        ) as client:
            return await asyncio.gather(*(intend(client, number) for number in range(INTENTS)))

    with lossy(port, share=0.4) as (url, proxy):
        ids = asyncio.run(storm(url))
    assert proxy.lost > INTENTS / 4
    with live.database.read() as session:
        rows, _ = jobs.page(session, live.project_id, after=None, limit=3 * INTENTS, metadata={"storm": marker})
    assert len(set(ids)) == INTENTS
    assert {row.id for row in rows} == set(ids)
