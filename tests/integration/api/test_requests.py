"""What every route has in common: ids, headers, errors, and requests that are not what they say."""

import contextlib
import re
import socket
import threading
import time

import httpx
import pytest

from api.protocol import HEAD_BYTES
from db import keys
from tests.integration.api.live import SECRET, Live, text_file


def error(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    return answer.json()["error"]


def raw(live: Live, request: bytes) -> bytes:
    """What the server answers to these very bytes."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_every_answer_has_a_request_id_and_takes_that_of_a_proxy(live: Live):
    assert re.fullmatch(r"req-[0-9a-f]{24}", live.mine.get("/healthz").headers["x-request-id"])
    given = live.mine.get("/v1/jobs", headers={"x-request-id": "proxy-7"})
    assert given.headers["x-request-id"] == "proxy-7"
    assert live.mine.get("/nowhere", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_every_answer_has_the_security_headers(live: Live):
    for path in ("/v1/jobs", "/nowhere", "/healthz", "/openapi.json"):
        headers = live.mine.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in headers


def test_an_unknown_route_is_a_404_in_the_envelope(live: Live):
    told = error(live.mine.get("/v1/job"), 404)
    assert (told["code"], told["type"]) == ("route_not_found", "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/files/file-1", "DELETE, GET"),
        ("DELETE", "/v1/jobs", "GET, POST"),
    ],
)
def test_a_wrong_method_is_a_405_that_names_all_right_ones(live: Live, method, path, allowed):
    answer = live.mine.request(method, path)
    assert error(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"  \n", 400, "empty_body"),
        (b"{oops", 400, "not_json"),
        (b'{"seed": NaN}', 400, "not_json"),
        (b'{"seed": Infinity}', 400, "not_json"),
        (b'{"kind": "\\ud800"}', 400, "not_json"),
        (b'{"kind": "\xff"}', 400, "not_json"),
        (b"[" * 100_000, 400, "not_json"),
        (b'{"a":' * 100_000, 400, "not_json"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, 400, "too_deep"),
        (b'{"model":' * 300 + b"1" + b"}" * 300, 400, "too_deep"),
        (b'{"seed": 1' + b"0" * 5000 + b"}", 400, "not_json"),
        (b"[]", 422, "model_attributes_type"),
        (b"null", 422, "model_attributes_type"),
        (b"{}", 422, "missing"),
        (
            b'{"kind": "sft", "model": "m", "training_file": "file-1", "seed": 1' + b"0" * 30 + b"}",
            422,
            "int_parsing_size",
        ),
        (b" " * 1_100_000 + b"{}", 413, "body_too_large"),
    ],
)
def test_a_bad_body_is_refused(live: Live, body, status, code):
    answer = live.mine.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert error(answer, status)["code"] == code


def test_json_errors_are_told_by_line_and_column(live: Live):
    headers = {"content-type": "application/json"}
    fault = error(live.mine.post("/v1/jobs", content=b'{"kind": "sft",\n  oops}', headers=headers), 400)["errors"][0]
    assert (fault["line"], fault["column"]) == (2, 3)


def test_a_body_of_another_type_is_refused(live: Live):
    assert error(live.mine.post("/v1/jobs", content=b"{}"), 415)["code"] == "unsupported_media_type"
    assert live.mine.post("/v1/jobs", data={"kind": "sft"}).status_code == 415


def test_a_chunked_body_is_capped_while_it_streams(live: Live):
    def endless():
        for _ in range(200):
            yield b" " * 65536

    headers = {"content-type": "application/json"}
    try:
        answer = live.mine.post("/v1/jobs", content=endless(), headers=headers)
    except httpx.WriteError:
        return  # the server had refused and hung up before all was sent
    assert error(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize("length", [1, 1_000_000])
def test_a_lying_content_length_brings_no_job_and_no_crash(live: Live, length):
    body = b'{"kind": "pretrain", "training_file": "%b"}' % text_file(live.theirs).encode()
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"authorization: %b\r\ncontent-length: %d\r\n\r\n"
    ) % (live.theirs.headers["authorization"].encode(), length)
    answer = raw(live, head + body)
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert live.theirs.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/jobs/a%00b", "/v1/files?after=a%00", "/v1/models/a%00/1", "/%00"])
def test_a_nul_in_path_or_query_is_refused(live: Live, path):
    assert error(live.mine.get(path), 400)["code"] == "nul_character"


@pytest.mark.parametrize(
    "path", ["/v1/jobs/%ff%fe", "/v1/jobs/%ed%a0%80", "/v1/files/" + "x" * 5000, "/v1/models/../../etc", "/v1/jobs/'--"]
)
def test_a_strange_id_is_not_found(live: Live, path):
    assert live.mine.get(path).status_code == 404


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Basic dTpw", "Bearer ty-" + "x" * 43, "ty-" + "x" * 43]
)
def test_without_a_right_key_nothing_is_answered(live: Live, header):
    with httpx.Client(base_url=live.url, trust_env=False) as nobody:
        answer = nobody.get("/v1/jobs", headers={} if header is None else {"Authorization": header})
    told = error(answer, 401)
    assert told["type"] == "authentication_error"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_route_but_health_docs_and_signing_in_wants_a_key(live: Live):
    paths = live.mine.get("/openapi.json").json()["paths"]
    with httpx.Client(base_url=live.url, trust_env=False) as nobody:
        for path, operations in paths.items():
            for method in operations:
                status = nobody.request(method, path).status_code
                signs_in = path == "/v1/session" and method != "delete"
                wants_a_key = path == "/metrics" or (path.startswith("/v1/") and not signs_in)
                assert (status == 401) == wants_a_key, (method, path, status)


def test_a_revoked_key_is_refused_within_a_second(live: Live):
    with live.database.write() as session:
        key, token = keys.create(session, live.project_id, "short-lived", SECRET)
    with httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        assert client.get("/v1/me").json()["key"]["id"] == key.id
        with live.database.write() as session:
            keys.revoke(session, live.project_id, key.id)
        time.sleep(1)
        assert error(client.get("/v1/me"), 401)["code"] == "invalid_key"


def test_what_is_behind_me_is_shown(live: Live):
    me = live.mine.get("/v1/me").json()
    assert me["project"]["id"] == live.project_id
    assert me["key"]["prefix"] in live.mine.headers["authorization"]


def test_the_service_is_alive_and_ready(live: Live):
    assert live.mine.get("/healthz").json() == {"status": "ok"}
    assert live.mine.get("/readyz").json() == {"status": "ready"}


def test_the_documentation_is_one_page_without_scripts(live: Live):
    page = live.mine.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/jobs/{job_id}/stream" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_many_clients_at_once_get_right_answers(live: Live):
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=live.url, headers=live.mine.headers, trust_env=False) as client:
            statuses.extend(client.get("/v1/jobs").status_code for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 160


def test_a_project_header_that_is_not_the_keys_is_refused(live: Live):
    assert live.mine.get("/v1/jobs", headers={"OpenAI-Project": live.project_id}).status_code == 200
    answer = live.mine.get("/v1/jobs", headers={"OpenAI-Project": "proj-other"})
    assert error(answer, 401)["code"] == "mismatched_project"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"x" * (1 << 20),
        b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * (1 << 18),
        b"GET /" + b"x" * (1 << 20),
        b"POST /v1/session HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: "
        + b"x" * (1 << 20),
    ],
    ids=["a long header", "many headers", "a long path", "a long trailer"],
)
def test_a_head_without_end_is_refused_and_its_connection_closed(live: Live, head: bytes):
    host, port = live.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                answer += chunk
    if answer:  # the reset of what is not read may overtake the answer
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b'"head_too_large"' in answer


def test_a_head_over_the_bound_is_told_so(live: Live):
    answer = raw(live, b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"x" * HEAD_BYTES)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"head_too_large"' in answer
    assert b"x-request-id: req-" in answer


def test_a_head_up_to_the_bound_and_a_body_of_many_pieces_are_taken(live: Live):
    assert live.mine.get("/healthz", headers={"x": "x" * (HEAD_BYTES - 2000)}).status_code == 200
    body = b'{"kind":"sft","model":"m"' + b" " * 900_000 + b"}"
    assert live.mine.post("/v1/jobs", content=body, headers={"content-type": "application/json"}).status_code == 422


def test_a_head_that_is_not_finished_in_time_is_closed_and_an_answer_under_way_is_not(
    live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.protocol.HEAD_S", 0.2)
    host, port = live.url.removeprefix("http://").split(":")
    for begun in (b"", b"GET /healthz HTTP/1.1\r\nhost: a\r\n", b"\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(begun)
            assert connection.recv(65536) == b""
    job_id = live.mine.post("/v1/jobs", json={"kind": "pretrain", "training_file": text_file(live.mine)}).json()["id"]
    token = live.mine.headers["authorization"]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        follow = f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n"
        connection.sendall(follow.encode())
        answer = b""
        while b'"seq"' not in answer:
            answer += connection.recv(65536)
        connection.sendall(b"GET ")
        time.sleep(0.5)
        live.mine.post(f"/v1/jobs/{job_id}/cancel")
        while b"[DONE]" not in answer:
            chunk = connection.recv(65536)
            assert chunk, "it was closed"
            answer += chunk


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {"model": "m\0", "messages": [{"role": "user", "content": "a"}]}, 422),
        ("/v1/completions", {"model": "m\0", "prompt": "a"}, 422),
        ("/v1/jobs", {"plan_id": "plan-\0"}, 404),
        ("/v1/jobs", {"plan_id": "\ud800".encode("utf-16", "surrogatepass").hex()}, 404),
        ("/v1/preview", {"spec": {"kind": "sft", "model": "m\0", "training_file": "file-1"}}, 422),
        ("/v1/fine_tuning/jobs", {"model": "m\0", "training_file": "file-\0"}, 400),
        ("/v1/fine_tuning/jobs", {"model": "m", "training_file": "file-1", "metadata": {"a": "\0"}}, 422),
        ("/v1/session", {"key": "ty-\0"}, 401),
        ("/v1/keys", {"name": "a\0", "scope": "read"}, 422),
        ("/v1/aliases", {"model": "m\0", "alias": "a"}, 422),
        ("/v1/uploads", {"bytes": 1, "filename": "a\0", "mime_type": "\0", "purpose": "evals"}, 422),
        ("/v1/models", {"name": "m", "licence": "mit", "files": ["file-\0"]}, 422),
    ],
)
def test_a_nul_in_a_body_is_the_senders_error(live: Live, path: str, body: dict, status: int):
    error(live.mine.post(path, json=body), status)


def test_what_may_not_be_kept_says_so_on_every_route(live: Live):
    document = live.mine.get("/openapi.json", timeout=120).json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
    assert len(paths) > 20
    for path in (*paths, "/nowhere", "/v1/session", "/v1/jobs/job-1"):
        answer = live.mine.get(path)
        assert answer.headers.get_list("cache-control") == ["no-store"], path
    file = live.mine.post("/v1/files", data={"purpose": "vision"}, files={"file": ("a", b"a")}).json()["id"]
    assert live.mine.get(f"/v1/files/{file}/content").headers["cache-control"] == "private, no-cache"
