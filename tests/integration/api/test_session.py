"""/v1/session: a browser signs in with a key, and what a cookie alone may and may not do."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.bootstrap import bootstrap
from api.session.seal import COOKIE, Seal
from api.settings import ApiSettings
from db import keys
from db.settings import StorageSettings
from tests.integration.api.live import BROKER_DOWN, SECRET, Live, served_app, until


@pytest.fixture
def browser(live: Live) -> Iterator[httpx.Client]:
    """A client that has signed in with a key of its own and sends nothing but its cookie."""
    with live.database.write() as session:
        _, token = keys.create(session, live.project_id, "browser", SECRET)
    with httpx.Client(base_url=live.url, timeout=30, trust_env=False) as client:
        assert client.post("/v1/session", json={"key": token}).status_code == 201
        yield client


def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(live: Live):
    token = live.mine.headers["authorization"].removeprefix("Bearer ")
    answer = httpx.post(f"{live.url}/v1/session", json={"key": f" {token}\n"}, trust_env=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert token not in cookie
    assert f"Max-Age={14 * 24 * 3600}" in cookie.split("; ")
    assert "expires" not in cookie.lower()


@pytest.mark.parametrize(("told", "secure"), [("true", True), ("", False)])
def test_behind_a_tls_proxy_the_operator_has_the_cookie_go_over_tls_alone(
    tmp_path: Path, told: str, secure: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRAINYARD_SECURE_COOKIE", told)
    storage = StorageSettings(home=tmp_path)
    bootstrap(ApiSettings(), storage, tmp_path / "key")
    with served_app(create_app(ApiSettings(), storage, broker_url=BROKER_DOWN)) as url:
        shown = {"key": (tmp_path / "key").read_text()}
        answer = httpx.post(f"{url}/v1/session", json=shown, trust_env=False)
    assert ("Secure" in answer.headers["set-cookie"].split("; ")) is secure


def test_a_session_reads_what_its_key_reads(live: Live, browser: httpx.Client):
    assert browser.get("/v1/jobs").status_code == 200
    assert browser.get("/v1/me").json()["project"]["id"] == live.project_id


def test_a_change_without_the_csrf_token_is_refused_and_with_it_taken(browser: httpx.Client):
    body = {"kind": "sft", "model": "none", "training_file": "file-1"}
    refused = browser.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_token_missing")
    token = browser.get("/v1/session").json()["csrf_token"]
    assert browser.post("/v1/jobs", json=body, headers={"x-csrf-token": token}).status_code == 404
    assert browser.post("/v1/jobs", json=body, headers={"x-csrf-token": token[:-1]}).status_code == 403


def test_a_wrong_key_opens_no_session(live: Live):
    for key in ("ty-" + "x" * 43, "sk-1"):
        answer = httpx.post(f"{live.url}/v1/session", json={"key": key}, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_key")
        assert "set-cookie" not in answer.headers


def test_a_body_without_a_key_is_told_what_is_missing(live: Live):
    answer = httpx.post(f"{live.url}/v1/session", json={"kee": "x"}, trust_env=False)
    assert answer.status_code == 422
    assert {fault["path"] for fault in answer.json()["error"]["errors"]} == {"key", "kee"}


def test_who_is_not_signed_in_is_told_so_without_an_error(live: Live):
    told = httpx.get(f"{live.url}/v1/session", trust_env=False).json()
    assert (told["csrf_token"], told["key"], told["project"]) == (None, None, None)


def test_signing_out_takes_the_cookie_back(browser: httpx.Client):
    token = browser.get("/v1/session").json()["csrf_token"]
    assert browser.delete("/v1/session", headers={"x-csrf-token": token}).status_code == 200
    assert browser.get("/v1/jobs").status_code == 401


def test_a_session_ends_with_its_key(live: Live, browser: httpx.Client):
    me = browser.get("/v1/me").json()
    with live.database.write() as session:
        assert keys.revoke(session, live.project_id, me["key"]["id"])
    until(lambda: browser.get("/v1/jobs").status_code == 401, 1.5)
    assert browser.get("/v1/session").json()["key"] is None


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: "key-2" + token, lambda _: "a.b.c.d"])
def test_a_changed_cookie_is_no_session(change):
    seal = Seal(SECRET)
    token, _ = seal.issue("key-1")
    assert seal.open(token) is not None
    assert seal.open(change(token)) is None


def test_a_session_has_an_end(monkeypatch: pytest.MonkeyPatch):
    seal = Seal(SECRET)
    token, ticket = seal.issue("key-1")
    monkeypatch.setattr("api.session.seal.time.time", lambda: ticket.expires_at + 1.0)
    assert seal.open(token) is None


def test_a_key_in_the_header_goes_before_the_cookie(live: Live, browser: httpx.Client):
    answer = browser.get("/v1/jobs", headers={"authorization": "Bearer ty-wrong"})
    assert answer.status_code == 401
