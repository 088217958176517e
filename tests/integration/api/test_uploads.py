"""Files that come in parts: put together in their order, checked as any file is, and dropped when they do not fit."""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from api.openai.uploads import routes, service
from db import budgets, keys, projects, references, uploads
from db.models import Audit
from tests.integration.api.live import CHAT, SECRET, Live, client, until
from workers.housekeeping import purge

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


def test_parts_that_come_at_once_take_no_more_room_than_one_by_one(live: Live):
    data = b"x" * 400_000
    upload_id = announced(live, len(data))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sent(live, upload_id, data).status_code, range(8)))
    assert (answers.count(200), answers.count(413)) == (3, 5)


def test_empty_parts_are_bounded_in_number(live: Live, monkeypatch):
    monkeypatch.setattr(service, "MAX_PARTS", 1)
    upload_id = announced(live)
    assert [sent(live, upload_id, b"").status_code for _ in range(3)] == [200] * 3
    assert code(sent(live, upload_id, b""), 413) == "too_many_parts"


def test_a_file_that_came_in_parts_is_in_the_audit_log(live: Live):
    upload_id = announced(live)
    done = completed(live, upload_id, [sent(live, upload_id, CONTENT).json()["id"]]).json()
    with live.database.read() as session:
        noted = session.scalars(select(Audit.action).where(Audit.object_id == done["file"]["id"])).all()
    assert noted == ["file.create"]


def test_the_parts_of_an_upload_that_expired_are_forgotten(live: Live):
    late, open_ = announced(live), announced(live)
    for upload_id in (late, open_):
        sent(live, upload_id, CONTENT)
    with live.database.write() as session:
        uploads.get(session, live.project_id, late).expires_at = 1.0
    purge(live.database)
    with live.database.read() as session:
        assert [uploads.received(session, upload_id)[0] for upload_id in (late, open_)] == [0, 1]


@pytest.mark.parametrize(
    "changes", [{"purpose": "none"}, {"bytes": 0}, {"filename": "a\u2028b"}, {"expires_after": {}}]
)
def test_an_announcement_that_cannot_be_a_file_is_refused(live: Live, changes):
    body = {"bytes": 9, "filename": "a", "mime_type": "text/jsonl", "purpose": "fine-tune"} | changes
    assert live.mine.post("/v1/uploads", json=body).status_code == 422


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Joins wait for this event; it is set at the end in any case."""
    go_on, join = threading.Event(), service._joined

    def waiting(*asked: Any) -> Any:
        assert go_on.wait(60)
        return join(*asked)

    monkeypatch.setattr(service, "_joined", waiting)
    yield go_on
    go_on.set()


def test_uploads_that_are_completed_hold_up_no_other_route(live: Live, held_up: threading.Event):
    made = [announced(live) for _ in range(40)]
    ids = [sent(live, upload_id, CONTENT).json()["id"] for upload_id in made]
    with ThreadPoolExecutor(40) as pool:
        asked = [
            pool.submit(completed, live, upload_id, [part_id]) for upload_id, part_id in zip(made, ids, strict=True)
        ]
        until(lambda: len(routes._COMPLETING._held) == 40)
        assert live.theirs.get("/v1/me").status_code == 200
        held_up.set()
        assert {answer.result().json()["status"] for answer in asked} == {"completed"}


def test_an_upload_is_completed_once_at_a_time_and_the_second_may_ask_again(live: Live, held_up: threading.Event):
    upload_id = announced(live)
    part_id = sent(live, upload_id, CONTENT).json()["id"]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(completed, live, upload_id, [part_id])
        until(lambda: upload_id in routes._COMPLETING._held)
        second = completed(live, upload_id, [part_id])
        assert code(second, 409) == "upload_completing"
        assert (second.headers["retry-after"], "x-should-retry" in second.headers) == ("5", False)
        held_up.set()
        file_id = first.result().json()["file"]["id"]
    assert completed(live, upload_id, [part_id]).json()["file"]["id"] == file_id


def test_an_upload_and_its_parts_are_held_to_the_budget_of_storage(live: Live):
    budget = len(CONTENT) + 100
    with live.database.write() as session:
        project = projects.create(session, f"limited {live.database.dialect}")
        budgets.put(session, project.id, project.id, storage_bytes=budget)
        _, token = keys.create(session, project.id, "tests", SECRET)
    with client(live.url, token) as asking:
        limited = dataclasses.replace(live, mine=asking, project_id=project.id)
        body = {"bytes": budget + 1, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
        assert code(asking.post("/v1/uploads", json=body), 403) == "over_budget"
        upload_id = announced(limited)
        part_id = sent(limited, upload_id, CONTENT).json()["id"]
        over = b"x" * 101
        assert code(sent(limited, upload_id, over), 403) == "over_budget"
        assert not live.service.blobs.exists(hashlib.sha256(over).hexdigest())
        (told,) = asking.get("/v1/budgets").json()["data"]
        assert told["used"]["storage_bytes"] == len(CONTENT)
        assert completed(limited, upload_id, [part_id]).json()["status"] == "completed"
        (told,) = asking.get("/v1/budgets").json()["data"]
        assert told["used"]["storage_bytes"] == len(CONTENT)
