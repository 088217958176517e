"""Questions for the desk that are refused before it is asked, and what is said while nobody is there."""

import contextlib
import socket
import threading

import pytest

from tests.integration.api.live import Live, text_file


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"spec": {}, "stap": 1}, "stap"), ({"spec": {}, "limit": 0}, "limit"), ({"limit": 1}, "spec")],
)
def test_a_request_that_is_not_one_is_refused(live: Live, asked, param):
    answer = live.mine.post("/v1/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


def test_without_a_desk_the_answer_is_a_503_that_says_so(live: Live):
    asked = {"spec": {"kind": "pretrain", "training_file": text_file(live.mine)}}
    answer = live.mine.post("/v1/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "desk_away")
    assert answer.headers["retry-after"] == "5"


def test_another_projects_file_is_not_shown(live: Live):
    asked = {"spec": {"kind": "pretrain", "training_file": text_file(live.theirs)}}
    assert live.mine.post("/v1/preview", json=asked).status_code == 404


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, "tools"),
        ({"messages": [{"role": "user", "content": "a"}], "presence_penalty": 1}, "presence_penalty"),
        ({"messages": [{"role": "user", "content": "a"}], "temperature": 3}, "temperature"),
    ],
)
def test_what_a_model_would_pass_over_in_silence_is_refused(live: Live, given, param):
    answer = live.mine.post("/v1/chat/completions", json={"model": "any", **given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


def test_a_desk_that_dies_in_the_middle_of_a_line_is_a_503(live: Live):
    asked = {"spec": {"kind": "pretrain", "training_file": text_file(live.mine)}}

    def answer_half() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as questions:
            questions.readline()
            connection.sendall(b'{"part": {"rows": [')

    with contextlib.chdir(live.service.desk.socket.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(live.service.desk.socket.name)
        listening.listen()
        desk = threading.Thread(target=answer_half)
        desk.start()
        try:
            answer = live.mine.post("/v1/preview", json=asked)
        finally:
            desk.join()
            live.service.desk.socket.unlink()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "desk_away")
