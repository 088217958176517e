"""Files that come in parts: put together in their order, checked as any file is, and dropped when they do not fit."""

import hashlib
import time
from typing import Any

import httpx
import pytest

from db import references, uploads
from tests.integration.api.live import CHAT, Live

CONTENT = CHAT * 40
PIECES = (CONTENT[:1000], CONTENT[1000:1001], CONTENT[1001:])


def announced(live: Live, size: int = len(CONTENT), **changes: Any) -> str:
    body = {"bytes": size, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"} | changes
    answer = live.mine.post("/v1/uploads", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def sent(live: Live, upload_id: str, data: bytes) -> httpx.Response:
    return live.mine.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("upload", data)})


def completed(live: Live, upload_id: str, part_ids: list[str], /, **changes: Any) -> httpx.Response:
    return live.mine.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids} | changes)


def code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["code"]


def test_parts_that_came_in_any_order_make_the_file(live: Live):
    upload_id = announced(live)
    ids = [sent(live, upload_id, piece).json()["id"] for piece in reversed(PIECES)][::-1]
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    done = completed(live, upload_id, ids, md5=md5.upper()).json()
    assert (done["status"], done["file"]["format"], done["file"]["row_count"]) == ("completed", "chat", 40)
    assert live.mine.get(f"/v1/files/{done['file']['id']}/content").content == CONTENT
    assert completed(live, upload_id, ids).json()["file"]["id"] == done["file"]["id"]


def test_a_part_that_came_twice_is_used_once(live: Live):
    upload_id = announced(live)
    ids = [sent(live, upload_id, piece).json()["id"] for piece in (CONTENT, CONTENT)]
    assert code(completed(live, upload_id, [ids[0], ids[0]]), 400) == "part_twice"
    assert completed(live, upload_id, ids[1:]).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("pieces", "changes", "wanted"),
    [
        ([CONTENT[:-1]], {}, "wrong_size"),
        ([CONTENT], {"md5": "0" * 32}, "wrong_md5"),
        ([CONTENT[:-2] + b"!\n"], {}, "invalid_file"),
        ([], {"part_ids": ["part-none"]}, "part_not_found"),
    ],
)
def test_parts_that_make_no_sound_file_are_refused_and_may_be_mended(live: Live, pieces, changes, wanted):
    upload_id = announced(live)
    ids = [sent(live, upload_id, piece).json()["id"] for piece in pieces]
    assert code(completed(live, upload_id, ids, **changes), 400) == wanted
    whole = sent(live, upload_id, CONTENT).json()["id"]
    assert completed(live, upload_id, [whole]).json()["status"] == "completed"


def test_more_than_was_announced_is_not_taken(live: Live):
    assert code(sent(live, announced(live, 10), CONTENT), 413) == "upload_too_large"


def test_what_is_cancelled_or_expired_takes_no_part(live: Live):
    upload_id, late = announced(live), announced(live)
    assert live.mine.post(f"/v1/uploads/{upload_id}/cancel").json()["status"] == "cancelled"
    assert live.mine.post(f"/v1/uploads/{upload_id}/cancel").json()["status"] == "cancelled"
    assert code(sent(live, upload_id, CONTENT), 409) == "upload_ended"
    with live.database.write() as session:
        uploads.get(session, live.project_id, late).expires_at = 1.0
    assert code(sent(live, late, CONTENT), 409) == "upload_ended"
    assert code(completed(live, late, ["part-1"]), 409) == "upload_ended"


def test_the_bytes_of_a_part_are_kept_until_the_upload_ends(live: Live):
    data = b"a part of its own"
    sha256 = hashlib.sha256(data).hexdigest()
    upload_id = announced(live, len(data))
    sent(live, upload_id, data)
    with live.database.read() as session:
        assert references.named(session, [sha256], time.time()) == {sha256}
        assert sha256 in references.every(session)
    live.mine.post(f"/v1/uploads/{upload_id}/cancel")
    with live.database.read() as session:
        assert references.named(session, [sha256], time.time()) == set()


@pytest.mark.parametrize(
    "changes", [{"purpose": "none"}, {"bytes": 0}, {"filename": "a\u2028b"}, {"expires_after": {}}]
)
def test_an_announcement_that_cannot_be_a_file_is_refused(live: Live, changes):
    body = {"bytes": 9, "filename": "a", "mime_type": "text/jsonl", "purpose": "fine-tune"} | changes
    assert live.mine.post("/v1/uploads", json=body).status_code == 422
