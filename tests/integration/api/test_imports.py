"""Models imported over HTTP."""

import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.models import imports
from tests import hostile
from tests.integration.api.live import Live, error, upload


def sent(client: httpx.Client, content: bytes, name: str = "model.tar") -> str:
    answer = upload(client, content, "model", name)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def imported(client: httpx.Client, *file_ids: str, **changes: object) -> httpx.Response:
    return client.post("/v1/models", json={"name": "brought", "licence": "apache-2.0", "files": file_ids, **changes})


def home_of(live: Live) -> Path:
    return live.service.blobs.root.parent


def test_a_model_is_imported_from_its_files_with_licence_limits_and_where_it_came_from(live: Live) -> None:
    files = hostile.model()
    ids = [sent(live.mine, content, name) for name, content in files.items()]
    answer = imported(live.mine, *ids, name="parts", source="https://example.org/parts")
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["reference"], made["licence"], made["job_id"]) == ("parts/1", "apache-2.0", None)
    assert made["limits"] == {"context_length": 64, "vocabulary_size": 16}
    lineage = live.mine.get("/v1/models/parts/lineage").json()["lineage"]
    assert (lineage["kind"], lineage["family"], lineage["source"]) == ("import", "llama", "https://example.org/parts")
    assert lineage["imported_by"].startswith("key-")
    assert {row["filename"]: row["sha256"] for row in lineage["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    payload = live.mine.get("/v1/models/parts/manifest").json()["signed"]["payload"]
    statement = json.loads(base64.b64decode(payload))
    assert (statement["datasets"], statement["imported_from"]) == ([], lineage["files"])
    assert (statement["source"], statement["left_out"]) == (lineage["source"], lineage["left_out"])
    weights = live.mine.get("/v1/models/parts/files/model.safetensors").content
    assert weights == files["model.safetensors"]


def test_a_model_is_imported_from_a_tar_by_upload_parts(live: Live) -> None:
    tar = hostile.tar()
    asked = {"bytes": len(tar), "filename": "m.tar", "mime_type": "application/x-tar", "purpose": "model"}
    upload_id = live.mine.post("/v1/uploads", json=asked).json()["id"]
    half = len(tar) // 2
    parts = [
        live.mine.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("p", part)}).json()["id"]
        for part in (tar[:half], tar[half:])
    ]
    file_id = live.mine.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": parts}).json()["file"]["id"]
    assert imported(live.mine, file_id, name="tarred").status_code == 201
    config = live.mine.get("/v1/models/tarred/files/config.json").json()
    assert config == hostile.CONFIG | {"dtype": "float32"}


def test_a_retry_imports_once_and_another_import_is_the_next_version(live: Live) -> None:
    file_id = sent(live.mine, hostile.tar())
    asked = {"name": "again", "licence": "mit", "files": [file_id]}
    keyed = {"Idempotency-Key": "again-1"}
    first, second = (live.mine.post("/v1/models", json=asked, headers=keyed).json() for _ in range(2))
    assert first["artifact_id"] == second["artifact_id"]
    assert live.mine.post("/v1/models", json=asked).json()["reference"] == "again/2"


def test_what_is_built_on_an_import_has_its_licence(live: Live) -> None:
    imported(live.mine, sent(live.mine, hostile.tar()), name="licensed", licence="CC-BY-4.0")
    rows = b'{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}\n'
    training_file = upload(live.mine, rows).json()["id"]
    body = {"kind": "sft", "model": "licensed", "training_file": training_file, "suffix": "heir"}
    from db import artifacts
    from tests.integration.api.live import claimed, stored

    job_id = live.mine.post("/v1/jobs", json=body).json()["id"]
    fence = claimed(live, job_id)
    with live.database.write() as session:
        artifacts.publish_result(
            session, job_id, fence, kind="adapter", layout="adapter", name="heir", step=1,
            files=[artifacts.FileEntry("a", *stored(live, b"2"))], metrics={}, lineage={},
        )  # fmt: skip
    heir = live.mine.get("/v1/adapters/heir").json()
    assert (heir["licence"], heir["limits"]["context_length"]) == ("CC-BY-4.0", 64)
    assert error(live.mine.delete("/v1/models/licensed"), 409)["code"] == "in_use"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"licence": "do what you <b>like</b>"}, 422, "licence"),
        ({"name": "../up"}, 422, "name"),
        ({"files": []}, 422, "files"),
        ({"files": ["file-doesnotexist"]}, 404, "files.0"),
        ({"source": "a\nb"}, 422, "source"),
        ({"owner": "me"}, 422, "owner"),
    ],
)
def test_a_request_that_is_not_in_order_is_refused(live: Live, changes: dict, status: int, param: str) -> None:
    file_id = sent(live.mine, hostile.tar())
    assert error(imported(live.mine, file_id, **changes), status)["param"] == param


def test_a_file_of_another_project_or_purpose_is_refused(live: Live) -> None:
    theirs = sent(live.theirs, hostile.tar())
    assert error(imported(live.mine, theirs), 404)["code"] == "file_not_found"
    rows = upload(live.mine).json()["id"]
    assert error(imported(live.mine, rows), 422)["code"] == "wrong_purpose"


def test_no_hostile_model_or_archive_has_any_effect(live: Live) -> None:
    def seen() -> tuple[list[str], list[str]]:
        outside = [str(path) for path in home_of(live).rglob("*") if path.is_file() and "blobs/" not in str(path)]
        names = [row["id"] for row in live.mine.get("/v1/models", params={"name": "evil"}).json()["data"]]
        return sorted(path for path in outside if "trainyard.db" not in path), names

    before = seen()
    attacks = hostile.ARCHIVES | {name: hostile.tar(files) for name, files in hostile.MODELS.items()}
    told = {}
    for name, archive in attacks.items():
        refusal = error(imported(live.mine, sent(live.mine, archive), name="evil"), 422)
        (fault,) = refusal["errors"]
        told[name] = json.dumps([fault["path"], fault["hint"]])
        assert fault["path"], name
        assert fault["hint"], name
    assert len(told) >= 60
    assert seen() == before
    assert before[1] == []


def test_a_project_imports_one_model_at_a_time_and_holds_up_no_other(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, check = threading.Event(), threading.Event(), imports.check_model

    def waiting(pieces: Any) -> Any:
        if not begun.is_set():
            begun.set()
            assert go_on.wait(60)
        return check(pieces)

    monkeypatch.setattr(imports, "check_model", waiting)
    mine, theirs = sent(live.mine, hostile.tar()), sent(live.theirs, hostile.tar())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(imported, live.mine, mine, name="first")
        try:
            assert begun.wait(60)
            second = imported(live.mine, mine, name="second")
            assert error(second, 429)["code"] == "import_under_way"
            assert second.headers["retry-after"] == "30"
            assert imported(live.theirs, theirs, name="others").status_code == 201
        finally:
            go_on.set()
        assert first.result().status_code == 201
    assert imported(live.mine, mine, name="second").status_code == 201


def test_an_import_that_was_answered_before_reads_no_file_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"name": "known", "licence": "mit", "files": [sent(live.mine, hostile.tar())]}
    keyed = {"Idempotency-Key": "known-1"}
    first = live.mine.post("/v1/models", json=asked, headers=keyed).json()
    monkeypatch.setattr(imports, "check_model", lambda _: pytest.fail("it was read again"))
    assert live.mine.post("/v1/models", json=asked, headers=keyed).json() == first
