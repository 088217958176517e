"""Files over HTTP: what is taken in, what is refused and why, and that nothing stays of what was not."""

import hashlib
import socket
from pathlib import Path

import httpx
import pytest

from db import files
from tests.integration.api.live import CHAT, Live, mixed_spec, served, submitted, text_file, until, upload
from workers import housekeeping


def blobs_in(live: Live) -> list[Path]:
    return [path for path in live.service.blobs.root.rglob("*") if path.is_file()]


def error(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_an_upload_is_shown_with_what_was_found_in_it(live: Live):
    answer = upload(live.mine, CHAT * 3)
    shown = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/files/{shown['id']}"
    assert {name: shown[name] for name in ("object", "bytes", "filename", "purpose", "status", "format")} == {
        "object": "file",
        "bytes": len(CHAT) * 3,
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "format": "chat",
    }
    assert (shown["row_count"], shown["sha256"]) == (3, hashlib.sha256(CHAT * 3).hexdigest())
    assert live.mine.get(f"/v1/files/{shown['id']}").json() == shown


def test_a_file_may_come_before_its_purpose(live: Live):
    parts = [("file", ("a.jsonl", CHAT)), ("purpose", (None, b"fine-tune"))]
    answer = live.mine.post("/v1/files", files=parts)
    assert answer.json()["format"] == "chat", answer.text


def test_a_byte_order_mark_and_crlf_are_accepted(live: Live):
    assert upload(live.mine, b"\xef\xbb\xbf" + CHAT.replace(b"\n", b"\r\n")).status_code == 201


def test_a_file_larger_than_any_buffer_arrives_whole(live: Live):
    content = b"".join(b'{"text": "row %d %s"}\n' % (n, b"x" * 1000) for n in range(4000))
    answer = upload(live.mine, content, "pretrain")
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert live.mine.get(f"/v1/files/{answer.json()['id']}/content").content == content


@pytest.mark.parametrize(
    ("content", "purpose", "code", "line", "column"),
    [
        (CHAT + b"{oops}\n", "fine-tune", "not_json", 2, 2),
        (CHAT.replace(b"assistant", b"asistant"), "fine-tune", "unknown_role", 1, None),
        (b'{"messages": [{"role": "user", "content": "?"}]}', "fine-tune", "no_assistant_turn", 1, None),
        (b"", "fine-tune", "empty_file", 1, None),
        (CHAT + b"\xff\xfe\n", "fine-tune", "not_utf8", 2, 1),
        (b'{"text": "a\x00b"}', "pretrain", "nul_byte", 1, 12),
        (b'{"text": NaN}', "pretrain", "not_json", 1, 10),
        (b'{"text": "\\ud800"}', "pretrain", "not_json", 1, 11),
        (b"[" * 100_000, "pretrain", "not_json", 1, 1026),
        (CHAT + b'{"prompt": "a", "completion": "b"}', "fine-tune", "mixed_formats", 2, None),
    ],
)
def test_a_faulty_file_is_refused_by_line_and_column(live: Live, content, purpose, code, line, column):
    before = blobs_in(live)
    told = error(upload(live.mine, content, purpose), 400)
    assert (told["code"], told["param"]) == ("invalid_file", "file")
    assert told["counts"] == {code: 1}
    fault = told["errors"][0]
    assert (fault["code"], fault["line"], fault["column"]) == (code, line, column)
    assert blobs_in(live) == before


def test_all_faults_are_counted_and_a_thousand_listed(live: Live):
    told = error(upload(live.mine, b"oops\n" * 1500), 400)
    assert (told["fault_count"], told["counts"], len(told["errors"])) == (1500, {"not_json": 1500}, 1000)


@pytest.mark.parametrize(
    ("arguments", "status", "code", "param"),
    [
        ({"data": {"purpose": "finetune"}, "files": {"file": ("a", CHAT)}}, 422, "unknown_value", "purpose"),
        ({"files": {"file": ("a", CHAT)}}, 422, "missing", "purpose"),
        ({"files": {"purpose": (None, b"evals")}}, 422, "missing", "file"),
        ({"data": {"purpos": "evals"}, "files": {"file": ("a", CHAT)}}, 422, "unknown_key", "purpos"),
        ({"files": [("file", ("a", CHAT)), ("file", ("b", CHAT))]}, 422, "duplicate", "file"),
        ({"data": {"purpose": "evals"}, "files": {"file": ("a\u2028b", CHAT)}}, 422, "invalid_filename", "file"),
        ({"data": {"purpose": "e" * 1000}, "files": {"file": ("a", CHAT)}}, 422, "too_long", "purpose"),
        ({"json": {"purpose": "evals"}}, 415, "unsupported_media_type", None),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "not_multipart", None),
        (
            {"content": b"oops", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "not_multipart",
            None,
        ),
        (
            {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "incomplete_body",
            None,
        ),
    ],
)
def test_a_bad_form_is_refused(live: Live, arguments, status, code, param):
    told = error(live.mine.post("/v1/files", **arguments), status)
    assert (told["code"], told["param"]) == (code, param)


def test_a_name_never_becomes_a_path(live: Live):
    assert upload(live.mine, name="../../etc/passwd").json()["filename"] == "passwd"


@pytest.mark.parametrize("declared", [100, None])
def test_an_upload_that_is_cut_leaves_nothing(live: Live, declared):
    before = blobs_in(live)
    count = len(live.mine.get("/v1/files", params={"limit": 100}).json()["data"])
    head = (
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    body = head + CHAT * 20_000
    host, port = live.url.removeprefix("http://").split(":")
    length = b"transfer-encoding: chunked" if declared is None else b"content-length: %d" % (len(body) * 2)
    with socket.create_connection((host, int(port))) as connection:
        request = (
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\n"
            b"authorization: %b\r\n%b\r\n\r\n" % (live.mine.headers["authorization"].encode(), length)
        )
        connection.sendall(request + (b"%x\r\n" % len(body) if declared is None else b"") + body)
        until(lambda: blobs_in(live) != before)
    until(lambda: blobs_in(live) == before)
    assert len(live.mine.get("/v1/files", params={"limit": 100}).json()["data"]) == count


def test_a_nearly_full_disk_answers_507_and_keeps_nothing(live: Live, tmp_path):
    with served(tmp_path, live.database.url, storage={"low_space_bytes": 2**62}) as full:
        answer = upload(full.mine)
        told = error(answer, 507)
        assert (told["code"], told["type"]) == ("low_space", "server_error")
        assert "delete files, models or adapters" in told["message"]
        assert "within an hour" in told["message"]
        assert int(answer.headers["retry-after"]) <= 60
        assert blobs_in(full) == []
        job = full.mine.post("/v1/jobs", json={"kind": "pretrain", "training_file": "file-1"})
        assert error(job, 507)["code"] == "low_space"


def test_limits_of_size_and_of_lines_hold(live: Live, tmp_path):
    with served(tmp_path, live.database.url, max_upload_bytes=100_000, max_line_bytes=5000) as small:
        assert error(upload(small.mine, CHAT * 2000), 413)["code"] == "file_too_large"
        told = error(upload(small.mine, CHAT + b"x" * 6000 + b"\n" + CHAT), 400)
        assert told["counts"] == {"line_too_long": 1}
        assert told["errors"][0]["line"] == 2
        assert blobs_in(small) == []


def test_files_are_listed_newest_first_and_page_by_page(live: Live):
    ids = [upload(live.theirs).json()["id"] for _ in range(5)]
    first = live.theirs.get("/v1/files", params={"limit": 3}).json()
    second = live.theirs.get("/v1/files", params={"limit": 3, "after": first["last_id"]}).json()
    assert [file["id"] for file in first["data"] + second["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert (first["first_id"], second["last_id"]) == (ids[4], ids[0])
    oldest = live.theirs.get("/v1/files", params={"order": "asc", "limit": 1}).json()
    assert oldest["data"][0]["id"] == ids[0]
    for none in ("evals", "batch_output", "assistants_output"):
        assert live.theirs.get("/v1/files", params={"purpose": none}).json()["data"] == []
    assert error(live.theirs.get("/v1/files", params={"purpose": "output"}), 422)["param"] == "purpose"


def test_a_page_of_files_is_long_unless_a_limit_is_given(live: Live):
    ids = {upload(live.theirs).json()["id"] for _ in range(21)}
    assert ids <= {file["id"] for file in live.theirs.get("/v1/files").json()["data"]}


def test_content_comes_whole_by_range_or_not_at_all(live: Live):
    shown = upload(live.mine, CHAT).json()
    url = f"/v1/files/{shown['id']}/content"
    whole = live.mine.get(url)
    assert (whole.content, whole.headers["content-length"]) == (CHAT, str(len(CHAT)))
    assert whole.headers["etag"] == f'"{shown["sha256"]}"'
    for wanted, start, stop in [("bytes=5-9", 5, 10), ("bytes=80-", 80, None), ("bytes=-7", len(CHAT) - 7, None)]:
        part = live.mine.get(url, headers={"range": wanted})
        assert (part.status_code, part.content) == (206, CHAT[start:stop])
        assert part.headers["content-range"].endswith(f"/{len(CHAT)}")
    for ignored in ("bytes=9-5", "bytes=a-b", "bytes=1-2,4-5", "rows=1-2"):
        assert live.mine.get(url, headers={"range": ignored}).status_code == 200
    beyond = live.mine.get(url, headers={"range": "bytes=5000-"})
    assert error(beyond, 416)["code"] == "range_not_satisfiable"
    assert live.mine.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_a_deleted_file_is_gone(live: Live):
    file_id = upload(live.mine).json()["id"]
    assert live.mine.delete(f"/v1/files/{file_id}").json() == {"id": file_id, "object": "file", "deleted": True}
    assert error(live.mine.get(f"/v1/files/{file_id}"), 404)["code"] == "file_not_found"
    assert error(live.mine.delete(f"/v1/files/{file_id}"), 404)["code"] == "file_not_found"


def test_a_file_that_a_waiting_job_needs_is_not_deleted(live: Live):
    job = live.mine.get(f"/v1/jobs/{submitted(live)}").json()
    answer = live.mine.delete(f"/v1/files/{job['spec']['training_file']}")
    assert error(answer, 409)["code"] == "in_use"
    assert answer.headers["x-should-retry"] == "false"


def test_no_file_of_a_mixture_that_a_waiting_job_needs_is_deleted(live: Live):
    files = [text_file(live.mine), text_file(live.mine)]
    assert live.mine.post("/v1/jobs", json=mixed_spec(*files)).status_code == 201
    assert [error(live.mine.delete(f"/v1/files/{file_id}"), 409)["code"] for file_id in files] == ["in_use"] * 2


def test_an_upload_announced_too_large_is_refused_before_it_is_sent(live: Live):
    host, port = live.url.removeprefix("http://").split(":")
    head = (
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\n"
        b"authorization: %b\r\ncontent-length: %d\r\n\r\n"
    ) % (live.mine.headers["authorization"].encode(), 10**15)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_file_of_a_purpose_that_no_job_reads_is_kept_as_it_is(live: Live):
    shown = upload(live.mine, b"\x00\xff no rows", "user_data", "a.bin").json()
    assert (shown["format"], shown["row_count"]) == ("unchecked", 0)
    assert live.mine.get(f"/v1/files/{shown['id']}/content").content == b"\x00\xff no rows"


def test_preferences_in_openais_shape_are_taken_and_faults_told_in_its_words(live: Live):
    row = (
        b'{"input": {"messages": [{"role": "user", "content": "?"}]}, '
        b'"preferred_output": [{"role": "assistant", "content": "a"}], '
        b'"non_preferred_output": [{"role": "assistant", "content": "b"}]}\n'
    )
    assert upload(live.mine, row).json()["format"] == "preferred_output"
    told = error(upload(live.mine, row.replace(b'"b"', b'""')), 400)
    assert told["errors"][0]["path"] == "non_preferred_output[0].content"


def expiring(live: Live, seconds: str, anchor: str = "created_at") -> httpx.Response:
    data = {"purpose": "fine-tune", "expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    return live.mine.post("/v1/files", data=data, files={"file": ("rows.jsonl", CHAT)})


@pytest.mark.parametrize(
    ("seconds", "anchor"), [("3599", "created_at"), ("x", "created_at"), ("²", "created_at"), ("3600", "now")]
)
def test_an_expiry_out_of_bounds_is_refused(live: Live, seconds, anchor):
    assert error(expiring(live, seconds, anchor), 422)["param"].startswith("expires_after[")


def test_a_file_goes_when_its_time_is_over_and_no_job_needs_it(live: Live):
    shown = expiring(live, "3600").json()
    assert shown["expires_at"] == shown["created_at"] + 3600
    with live.database.write() as session:
        assert files.expired(session, 10) == []
        files.get(session, live.project_id, shown["id"]).expires_at = 1.0
    with live.database.read() as session:
        assert files.expired(session, 10) == [(live.project_id, shown["id"])]
    housekeeping.expire_files(live.database)
    assert error(live.mine.get(f"/v1/files/{shown['id']}"), 404)["code"] == "file_not_found"


def test_an_expired_file_stays_until_the_job_that_names_it_has_ended(live: Live):
    job_id = submitted(live)
    file_id = live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]["training_file"]
    with live.database.write() as session:
        files.get(session, live.project_id, file_id).expires_at = 1.0
    housekeeping.expire_files(live.database)
    assert live.mine.get(f"/v1/files/{file_id}").is_success
    live.mine.post(f"/v1/jobs/{job_id}/cancel")
    housekeeping.expire_files(live.database)
    assert live.mine.get(f"/v1/files/{file_id}").status_code == 404


def test_an_expired_file_is_come_to_behind_those_that_have_to_stay(live: Live, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(housekeeping, "_BATCH", 1)
    job_id = submitted(live)
    held = live.mine.get(f"/v1/jobs/{job_id}").json()["spec"]["training_file"]
    free = expiring(live, "3600").json()["id"]
    with live.database.write() as session:
        for file_id in (held, free):
            files.get(session, live.project_id, file_id).expires_at = 1.0
    after = housekeeping.expire_files(live.database)
    assert after == held
    assert housekeeping.expire_files(live.database, after) == free
    assert housekeeping.expire_files(live.database, free) == ""
    assert [live.mine.get(f"/v1/files/{file_id}").status_code for file_id in (held, free)] == [200, 404]
