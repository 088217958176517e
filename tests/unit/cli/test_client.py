"""Answers that are not a success, as messages and exit codes."""

import httpx
import pytest

from cli.client import DESTRUCTIVE_FEWEST, Client, refusal
from cli.errors import CommandError, Exit


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
