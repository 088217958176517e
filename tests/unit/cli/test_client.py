"""Answers that are not a success, as messages and exit codes."""

from pathlib import Path

import httpx
import pytest

from cli.client import DESTRUCTIVE_FEWEST, Client, refusal, unreachable
from cli.errors import CommandError, Exit
from tests.unit.cli.conftest import Serve


def answer(status: int, error: dict | None = None) -> httpx.Response:
    request = httpx.Request("GET", "http://127.0.0.1:1/v1/jobs")
    if error is None:
        return httpx.Response(status, text="<html>", request=request)
    return httpx.Response(status, json={"error": error}, request=request, headers={"x-request-id": "req-7"})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Exit.INVALID),
        (401, Exit.AUTH),
        (403, Exit.AUTH),
        (404, Exit.NOT_FOUND),
        (413, Exit.INVALID),
        (422, Exit.INVALID),
        (500, Exit.UNEXPECTED),
        (507, Exit.UNEXPECTED),
    ],
)
def test_each_status_has_its_exit_code(status: int, code: Exit) -> None:
    assert refusal(answer(status, {"message": "no"})).code is code


def test_every_fault_has_its_line() -> None:
    faults = [
        {"code": "wrong_type", "path": "messages[1].content", "line": 14, "column": None, "message": "must be text"},
        {"code": "not_json", "path": "", "line": 31, "column": 118, "message": "not JSON", "hint": "escape the quote"},
    ]
    told = refusal(answer(422, {"message": "2 faults", "errors": faults})).message
    assert told == "2 faults\n  14: messages[1].content: must be text\n  31:118: not JSON; escape the quote"


def test_a_fault_of_the_service_names_the_request() -> None:
    assert "req-7" in refusal(answer(500, {"message": "internal error"})).message


def test_an_answer_that_is_not_ours_is_shown_as_it_is() -> None:
    assert "<html>" in refusal(answer(502)).message


@pytest.mark.parametrize(("given", "fewest"), [("", 1), ("file-", 1), ("01k", DESTRUCTIVE_FEWEST), ("file-01k", 4)])
def test_an_id_that_is_too_short_is_refused_before_anything_is_asked(given: str, fewest: int) -> None:
    with pytest.raises(CommandError) as caught:
        Client("http://127.0.0.1:1", "ty-key").whole_id("file", given, fewest=fewest)
    assert caught.value.code is Exit.USAGE
    assert "too short" in caught.value.message


def test_another_key_is_proposed_only_where_it_would_help() -> None:
    assert "TRAINYARD_API_KEY" in str(refusal(answer(401, {"message": "no"})).mend)
    over = refusal(answer(403, {"message": "over budget", "code": "over_budget"}))
    assert (over.code, over.mend) == (Exit.INVALID, None)
    scope = refusal(answer(403, {"message": "no", "code": "missing_scope"}))
    assert (scope.code, scope.mend) == (Exit.AUTH, None)


HTML = {"content-type": "text/html"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (httpx.Response(200, text="<html>", headers=HTML), "answered 200, which is not an answer of Trainyard: <html>"),
        (httpx.Response(200, json=["a"]), 'which is not an answer of Trainyard: ["a"]'),
        (httpx.Response(200, text="", headers=JSON), "which is not an answer of Trainyard"),
        (httpx.Response(302, headers={"location": "https://login/"}), "answered 302 and redirects to https://login/"),
        (httpx.Response(502, text="<html>", headers=JSON), "answered 502, which is not an answer of Trainyard: <html>"),
        (httpx.Response(502, json=["a"]), "answered 502"),
    ],
)
@pytest.mark.parametrize("verb", ["get", "post", "delete"])
def test_an_answer_of_something_else_is_told_as_such(verb: str, strange: httpx.Response, told: str, serve) -> None:
    serve(lambda request: strange)
    with pytest.raises(CommandError) as caught:
        getattr(Client(), verb)("jobs")
    assert told in caught.value.message
    assert "TRAINYARD_URL" in str(caught.value.mend)


def test_an_answer_that_cannot_be_unpacked_is_told_as_such(serve) -> None:
    def garbage(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    serve(garbage)
    with pytest.raises(CommandError, match="does not answer"):
        Client().get("jobs")


@pytest.mark.parametrize("url", ["http://[::1", "http://service:port"])
def test_an_address_that_is_none_is_told_as_such(url: str) -> None:
    with pytest.raises(CommandError, match="is not an address") as caught:
        Client(url, "ty-key")
    assert caught.value.code is Exit.USAGE


def test_a_certificate_that_is_not_trusted_is_not_told_as_silence() -> None:
    told = unreachable("https://service", httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    assert "is not trusted" in told.message
    assert "SSL_CERT_FILE" in str(told.mend)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_named(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    Client("http://service", "ty-key")  # needs none
    with pytest.raises(CommandError) as caught:
        Client("https://service", "ty-key")
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("reference", "listed", "whole"),
    [
        ("ckpt-01k7", ["ckpt-01k7qz"], "ckpt-01k7qz"),
        (
            "adapter-01k7",
            ["adapter-01k7qz", "adapter-01k7qy"],
            "adapter-01k7",
        ),  # the service says what is wrong with it
        ("model-01k7", [], "model-01k7"),
        ("model-house/3", None, "model-house/3"),
        ("bot@production", None, "bot@production"),
        (f"model-{'0' * 26}", None, f"model-{'0' * 26}"),
    ],
)
def test_weights_can_be_named_by_the_beginning_of_an_id(
    serve: Serve, reference: str, listed: list[str] | None, whole: str
) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        assert listed is not None, "nothing needs to be asked"
        return httpx.Response(200, json={"data": [{"id": each} for each in listed], "has_more": False})

    serve(answer)
    assert Client().whole(reference) == whole


@pytest.mark.parametrize("given", ["01K7", "é", "0" * 27])
def test_what_begins_no_id_is_not_asked_for(given: str, serve: Serve) -> None:
    serve(lambda request: pytest.fail("nothing is asked of the service"))
    with pytest.raises(CommandError, match="No job begins with") as caught:
        Client().whole_id("job", given)
    assert caught.value.code is Exit.NOT_FOUND


def test_a_path_that_is_part_of_no_address_is_a_usage_error(serve: Serve) -> None:
    serve(lambda request: pytest.fail("nothing is asked of the service"))
    with pytest.raises(CommandError, match="cannot be part of an address") as caught:
        Client().get("jobs/\x1b")
    assert caught.value.code is Exit.USAGE
