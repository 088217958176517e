"""Exceptions of the database layer as answers."""

import asyncio

import httpx
from fastapi import FastAPI

from api.handlers import add_handlers
from db.errors import InUse, UnstorableText


def answered(error: Exception) -> httpx.Response:
    """The answer of a route that raises this."""
    app = FastAPI()
    add_handlers(app)

    @app.get("/")
    def fail() -> None:
        raise error

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/")

    return asyncio.run(ask())


def test_text_that_the_database_cannot_hold_is_a_bad_request():
    answer = answered(UnstorableText("PostgreSQL text fields cannot contain NUL (0x00) bytes"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert "NUL" in answer.json()["error"]["message"]


def test_what_is_in_use_names_its_jobs_and_only_says_that_others_use_it():
    answer = answered(InUse("model-1", ["job-1"], lent=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_use")
    message = answer.json()["error"]["message"]
    assert "job-1 and by a job of another project" in message
    assert "revoke the permission" in message
